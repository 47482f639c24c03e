//! Supervisor → soft-cpu. What core says to it is `bulkhead_hypervisor::remote::wire`.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

/// To a soft-cpu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SoftCpuCommand {
    /// First and only message. Descriptors: the RAM memfd, the control channel to core, the log of
    /// written pages (a memfd with a bit for each page up to the end of RAM), then for each vCPU the
    /// channel of its turns and the eventfd of its kicks.
    Plan {
        /// vCPUs: as many as its first argument said.
        vcpus: u8,
        /// Bytes of guest memory; the memfd has as many.
        memory: u64,
    },
}

impl Message for SoftCpuCommand {
    fn fd_count(&self) -> usize {
        let Self::Plan { vcpus, .. } = self;
        3 + 2 * usize::from(*vcpus)
    }
}
