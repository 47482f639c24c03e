//! What the supervisor is told of a machine beside its life: counters when it asks, and now and then what
//! the guest needs and the engine lacks.
//!
//! Called by the main thread: at each heartbeat, so that nothing wakes for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_hypervisor::Vm;
use bulkhead_protocol::soft_cpu::SoftCpuEvent;

/// Between two words about unknown instructions.
const SILENCE: Duration = Duration::from_secs(10);

/// About one machine, or about none.
#[derive(Default)]
pub struct Report {
    vm: Option<Arc<dyn Vm>>,
    /// Unknown instructions that were told of, and when.
    told: u64,
    at: Option<Instant>,
}

impl Report {
    /// About this machine.
    pub fn new(vm: Arc<dyn Vm>) -> Self {
        Self { vm: Some(vm), told: 0, at: None }
    }

    /// The counters as they are.
    pub fn counters(&self) -> SoftCpuEvent {
        let counters = self.vm.as_ref().and_then(|vm| vm.counters());
        SoftCpuEvent::Counted(counters.unwrap_or_default())
    }

    /// What is to be told now, if anything.
    pub fn news(&mut self, now: Instant) -> Option<SoftCpuEvent> {
        if self.at.is_some_and(|at| now.saturating_duration_since(at) < SILENCE) {
            return None;
        }
        let unknown = self.vm.as_ref()?.last_unknown()?;
        if unknown.seen <= self.told {
            return None;
        }
        (self.told, self.at) = (unknown.seen, Some(now));
        Some(SoftCpuEvent::Unknown(unknown))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;
    use std::sync::atomic::{AtomicU64, Ordering};

    use bulkhead_hypervisor::{EngineError, Gsi, IoEvent, Msi, Vcpu};
    use bulkhead_protocol::crash::Word;
    use bulkhead_protocol::soft_cpu::Unknown;

    use super::*;

    /// A machine that has seen so many unknown instructions.
    #[derive(Default)]
    struct Seen(AtomicU64);

    impl Vm for Seen {
        fn create_vcpu(&self, _: u8, _: u8) -> Result<Box<dyn Vcpu>, EngineError> {
            Err(EngineError::Gone)
        }
        fn signal_msi(&self, _: Msi) -> Result<(), EngineError> {
            Ok(())
        }
        fn allocate_gsi(&self) -> Result<Gsi, EngineError> {
            Err(EngineError::Gone)
        }
        fn release_gsi(&self, _: Gsi) {}
        fn set_routes(&self, _: &[(Gsi, Option<Msi>)]) -> Result<(), EngineError> {
            Ok(())
        }
        fn connect_irqfd(&self, _: BorrowedFd<'_>, _: Gsi) -> Result<(), EngineError> {
            Ok(())
        }
        fn disconnect_irqfd(&self, _: BorrowedFd<'_>, _: Gsi) -> Result<(), EngineError> {
            Ok(())
        }
        fn connect_ioevent(&self, _: IoEvent, _: BorrowedFd<'_>) -> Result<(), EngineError> {
            Ok(())
        }
        fn disconnect_ioevent(&self, _: IoEvent, _: BorrowedFd<'_>) -> Result<(), EngineError> {
            Ok(())
        }
        fn breakpoint_limit(&self) -> Option<usize> {
            None
        }
        fn code_changed(&self, _: u64, _: u64) -> Result<(), EngineError> {
            Ok(())
        }
        fn last_unknown(&self) -> Option<Unknown> {
            let seen = self.0.load(Ordering::Relaxed);
            (seen > 0).then(|| Unknown { seen, rip: Word(1), bytes: vec![0x0f] })
        }
    }

    #[test]
    fn unknown_instructions_are_told_of_once_and_then_now_and_then() {
        let vm = Arc::<Seen>::default();
        let mut report = Report::new(Arc::clone(&vm) as Arc<dyn Vm>);
        let start = Instant::now();
        assert_eq!(report.news(start), None);
        vm.0.store(2, Ordering::Relaxed);
        assert!(matches!(report.news(start), Some(SoftCpuEvent::Unknown(said)) if said.seen == 2));
        vm.0.store(9, Ordering::Relaxed);
        assert_eq!(report.news(start + SILENCE / 2), None);
        let later = report.news(start + SILENCE);
        assert!(matches!(later, Some(SoftCpuEvent::Unknown(said)) if said.seen == 9));
        assert_eq!(report.news(start + 3 * SILENCE), None);
    }
}
