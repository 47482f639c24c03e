//! What leads from core to soft-cpu and back: made here, held until both have their ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_memory::{RamLayout, WrittenPages};
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::memfd::create_sealed;
use bulkhead_sys::seqpacket;

/// Both sides.
#[derive(Debug)]
pub struct Cords {
    /// Core's ends.
    pub of_core: Ends,
    /// The engine's.
    pub of_soft_cpu: Ends,
}

/// One side: the control channel, the log of written pages, then for each vCPU the channel of its turns and its kick.
#[derive(Debug)]
pub struct Ends(Vec<OwnedFd>);

impl Ends {
    /// In the order of the plans.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd)
    }
}

impl Cords {
    /// For so many vCPUs and so much RAM.
    pub fn new(vcpus: u32, ram: &RamLayout) -> io::Result<Self> {
        let (control, its_control) = seqpacket::pair()?;
        let written = create_sealed("written-pages", WrittenPages::len_of(ram))?;
        let (mut core, mut soft_cpu) =
            (vec![control, written.try_clone()?], vec![its_control, written]);
        for _ in 0..vcpus {
            let (turns, its_turns) = seqpacket::pair()?;
            let kick = Doorbell::new()?;
            soft_cpu.extend([its_turns, kick.try_clone()?.into_fd()]);
            core.extend([turns, kick.into_fd()]);
        }
        Ok(Self { of_core: Ends(core), of_soft_cpu: Ends(soft_cpu) })
    }
}
