//! From descriptors to a chain: the rules that both kinds of ring share.

use bulkhead_memory::{GuestMemory, GuestRange};
use virtio_queue::desc::RawDescriptor;

use crate::PackedDescriptor;
use crate::chain::Chain;
use crate::fault::QueueFault;
use crate::indirect;

/// Most descriptors of one request, indirect ones included. A driver may use as many as the queue has
/// (virtio 1.2, 2.7.5.3.1); Linux exceeds that by two, QEMU stops at 1024, and so do we.
pub const MOST_DESCRIPTORS: u32 = 1024;

/// Most bytes of one request (2.7.5.2).
const MOST_BYTES: u64 = 1 << 32;

/// How the entries of an indirect table follow each other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Links {
    /// By their `next` fields, from entry 0 (split rings, 2.7.5.3).
    ByField,
    /// All, in order (packed rings, 2.8.8).
    InOrder,
}

/// Fills a chain.
pub(crate) struct Assembly<'a> {
    memory: &'a GuestMemory,
    chain: &'a mut Chain,
    indirect_negotiated: bool,
    count: u32,
}

impl<'a> Assembly<'a> {
    pub(crate) fn new(
        memory: &'a GuestMemory,
        chain: &'a mut Chain,
        indirect_negotiated: bool,
    ) -> Self {
        chain.clear();
        Self { memory, chain, indirect_negotiated, count: 0 }
    }

    pub(crate) fn chain(&mut self) -> &mut Chain {
        self.chain
    }

    /// Adds a buffer.
    #[inline]
    pub(crate) fn push(
        &mut self,
        addr: u64,
        len: u32,
        device_writes: bool,
    ) -> Result<(), QueueFault> {
        self.count += 1;
        if self.count > MOST_DESCRIPTORS {
            return Err(QueueFault::Endless(MOST_DESCRIPTORS));
        }
        let range = GuestRange::new(addr, len.into());
        check_buffer(self.memory, range)?;
        match device_writes {
            true => self.chain.writable.push(range),
            false if self.chain.writable.is_empty() => self.chain.readable.push(range),
            false => return Err(QueueFault::ReadAfterWrite),
        }
        let total = self.chain.readable.len() + self.chain.writable.len();
        match total <= MOST_BYTES {
            true => Ok(()),
            false => Err(QueueFault::TooLong(total)),
        }
    }

    /// Adds all buffers of an indirect table, which ends the chain.
    pub(crate) fn push_indirect(
        &mut self,
        table: GuestRange,
        has_next: bool,
        links: Links,
    ) -> Result<(), QueueFault> {
        if !self.indirect_negotiated {
            return Err(QueueFault::UnexpectedIndirect);
        }
        if has_next {
            return Err(QueueFault::IndirectWithNext);
        }
        let mut room = std::mem::take(&mut self.chain.table);
        let walked = indirect::copy(self.memory, table, &mut room).and_then(|table| match links {
            Links::ByField => self.follow(table),
            Links::InOrder => self.take_all(table),
        });
        self.chain.table = room;
        walked
    }

    fn follow(&mut self, table: &[crate::SplitDescriptor]) -> Result<(), QueueFault> {
        let mut index = 0;
        for _ in table {
            let no_descriptor = QueueFault::NoDescriptor { index, size: table.len() as u32 };
            let entry = table.get(index as usize).ok_or(no_descriptor)?;
            if entry.refers_to_indirect_table() {
                return Err(QueueFault::NestedIndirect);
            }
            self.push(entry.addr().0, entry.len(), entry.is_write_only())?;
            if !entry.has_next() {
                return Ok(());
            }
            index = u32::from(entry.next());
        }
        Err(QueueFault::Endless(table.len() as u32))
    }

    fn take_all(&mut self, table: &[crate::SplitDescriptor]) -> Result<(), QueueFault> {
        for entry in table {
            let entry = PackedDescriptor::from(RawDescriptor::from(*entry));
            if entry.refers_to_indirect_table() {
                return Err(QueueFault::NestedIndirect);
            }
            self.push(entry.addr().0, entry.len(), entry.is_write_only())?;
        }
        Ok(())
    }
}

/// Checks that a buffer lies in guest memory, be it in several regions.
#[inline]
pub(crate) fn check_buffer(memory: &GuestMemory, range: GuestRange) -> Result<(), QueueFault> {
    if range.len == 0 || memory.check(range).is_ok() {
        return Ok(());
    }
    match memory.pieces(range).all(|piece| piece.is_ok()) {
        true => Ok(()),
        false => Err(QueueFault::Buffer(range)),
    }
}
