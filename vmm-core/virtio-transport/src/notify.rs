//! Kicks: a driver's notification rings the queue's doorbell in the kernel, wherever the BAR is.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use bulkhead_hypervisor::{IoEvent, Vm};
use bulkhead_machine::complaint;
use bulkhead_sys::eventfd::Doorbell;

use crate::capabilities::{NOTIFY_MULTIPLIER, notify_offset};
use crate::hold::hold;

/// The notification registers of all queues.
pub(crate) struct Notify {
    vm: Arc<dyn Vm>,
    kicks: Vec<Arc<Doorbell>>,
    /// Where the BAR is, while it is anywhere.
    bar: Mutex<Option<u64>>,
}

impl Notify {
    pub fn new(vm: Arc<dyn Vm>, kicks: Vec<Arc<Doorbell>>) -> Self {
        Self { vm, kicks, bar: Mutex::new(None) }
    }

    /// The BAR has moved; the doorbells follow.
    pub fn follow(&self, address: Option<u64>) {
        let mut bar = hold(&self.bar);
        if let Some(old) = std::mem::replace(&mut *bar, address) {
            self.each(old, |event, kick| self.vm.disconnect_ioevent(event, kick.as_fd()));
        }
        if let Some(new) = address {
            self.each(new, |event, kick| self.vm.connect_ioevent(event, kick.as_fd()));
        }
    }

    fn each<E: std::fmt::Display>(
        &self,
        bar: u64,
        connect: impl Fn(IoEvent, &Doorbell) -> Result<(), E>,
    ) {
        for (queue, kick) in (0..).zip(&self.kicks) {
            let event = IoEvent::mmio(bar.wrapping_add(notify_offset(queue)));
            complaint::lost("a virtio queue's doorbell", connect(event, kick));
        }
    }

    /// A notification that came here after all (through the configuration access window, or because the
    /// host refused the doorbell). Its value is not looked at: the register says which queue.
    pub fn write(&self, offset: u64) {
        let queue = usize::try_from(offset / u64::from(NOTIFY_MULTIPLIER)).ok();
        if let Some(kick) = queue.and_then(|queue| self.kicks.get(queue)) {
            kick.ring_if_quiet();
        }
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        self.follow(None);
    }
}
