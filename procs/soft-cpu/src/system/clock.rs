//! The time-stamp counter and the paravirtual clock made from it.
//!
//! The guest's counter is the host's minus its value when the machine was made; one clock serves all
//! vCPUs, so that their counters are in step.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::cpu::Cpu;

/// How long the host's counter is watched.
const MEASUREMENT: Duration = Duration::from_millis(10);

/// A machine's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) start: u64,
    born: SystemTime,
    /// Ticks a second.
    pub(crate) frequency: u64,
    /// A tick is an instruction: see [`Cpu::now`].
    pub(crate) counts: bool,
}

/// What the processors of a machine that counts instructions have in common: they execute in turns, and time is
/// where the last one has left it.
#[derive(Debug, Default)]
pub(crate) struct Rota {
    latest: AtomicU64,
    /// Turns in a row in which nothing was executed.
    idle: AtomicU32,
}

/// The host's counter.
#[inline(always)]
pub(crate) fn host_counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and user code may use it on Linux.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Ticks of the host's counter a second, measured once for the process against the monotonic clock.
pub(crate) fn host_frequency() -> u64 {
    static MEASURED: OnceLock<u64> = OnceLock::new();
    *MEASURED.get_or_init(|| {
        let (started, first) = (Instant::now(), host_counter());
        // Not asleep: a process on its way to its seal may not have the call.
        while started.elapsed() < MEASUREMENT {
            std::hint::spin_loop();
        }
        let (elapsed, last) = (started.elapsed(), host_counter());
        let ticks = u128::from(last.wrapping_sub(first));
        let frequency = ticks * 1_000_000_000 / elapsed.as_nanos().max(1);
        u64::try_from(frequency).unwrap_or(1_000_000_000).max(1_000_000) / 1000 * 1000
    })
}

impl Cpu {
    /// The machine's time in ticks. Where instructions are counted, block by block, the time that a
    /// processor sleeps through counts as well.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match self.clock.counts {
            false => self.clock.now(),
            true => self.counted().wrapping_add(self.slept),
        }
    }
}

/// Where instructions are counted.
impl Cpu {
    /// Its turn begins: what the others have executed meanwhile is time that it slept through.
    pub(crate) fn begin_turn(&mut self) {
        let latest = self.rota.latest.load(Ordering::Relaxed);
        self.slept = self.slept.wrapping_add(latest.saturating_sub(self.now()));
    }

    /// Its turn ends.
    pub(crate) fn end_turn(&self) {
        self.rota.latest.store(self.now(), Ordering::Relaxed);
    }

    /// It executes in this turn.
    pub(crate) fn use_turn(&self) {
        self.rota.idle.store(0, Ordering::Relaxed);
    }

    /// It has nothing to execute: it sleeps until its timer expires, if all the others wait as well. `false`:
    /// it is another one's turn.
    pub(crate) fn sleep_through(&mut self) -> bool {
        let (others, expiry) = (self.apic.others().len(), self.apic.expiry());
        let idle = self.rota.idle.fetch_add(1, Ordering::Relaxed);
        let all_wait = idle as usize >= others && expiry != u64::MAX;
        if all_wait {
            self.slept = self.slept.wrapping_add(expiry.saturating_sub(self.now()));
        }
        all_wait
    }
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        let frequency = host_frequency();
        Self { start: host_counter(), born: SystemTime::now(), frequency, counts: false }
    }

    /// A clock that knows no time: machines with it do the same again.
    pub(crate) fn counting() -> Self {
        Self { start: 0, born: SystemTime::UNIX_EPOCH, frequency: 1_000_000_000, counts: true }
    }

    /// Ticks since the start.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        host_counter().wrapping_sub(self.start)
    }

    /// How long a number of ticks takes.
    pub(crate) fn duration(&self, ticks: u64) -> Duration {
        let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::from(self.frequency);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// How many ticks a number of nanoseconds are.
    pub(crate) fn ticks(&self, nanoseconds: u64) -> u64 {
        let ticks = u128::from(nanoseconds) * u128::from(self.frequency) / 1_000_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// `struct pvclock_vcpu_time_info`: nanoseconds since the start are a function of the counter alone.
    pub(crate) fn system_time(&self) -> [u8; 32] {
        const STABLE: u8 = 1;
        let (mut shift, mut frequency) = (0i8, self.frequency);
        while frequency <= 1_000_000_000 {
            frequency *= 2;
            shift += 1;
        }
        let multiplier = ((1_000_000_000u128 << 32) / u128::from(frequency)) as u32;
        let mut info = [0; 32];
        info[0] = 2;
        info[24..28].copy_from_slice(&multiplier.to_le_bytes());
        info[28] = shift as u8;
        info[29] = STABLE;
        info
    }

    /// `struct pvclock_wall_clock`: when the counter was zero.
    pub(crate) fn wall_clock(&self) -> [u8; 12] {
        let since = self.born.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut info = [0; 12];
        info[0] = 2;
        info[4..8].copy_from_slice(&(since.as_secs() as u32).to_le_bytes());
        info[8..12].copy_from_slice(&since.subsec_nanos().to_le_bytes());
        info
    }
}
