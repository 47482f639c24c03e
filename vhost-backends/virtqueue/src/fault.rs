//! What a driver can do wrong to a queue. The guest is to blame for all of it.

use bulkhead_memory::{AccessError, GuestRange, OutOfRange};

/// The driver broke the rules of its queue. The queue is served no more until it is set up anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueFault {
    /// No queue has that size: 0, over 32768, or (split) no power of two.
    #[error("a queue of {0} descriptors")]
    Size(u16),
    /// A part of the queue is not aligned as its kind demands.
    #[error("ring at guest address {addr:#x}, which is not a multiple of {align}")]
    Misaligned {
        /// Guest address of the part.
        addr: u64,
        /// What it must be a multiple of.
        align: u64,
    },
    /// Something alleged to be guest memory is none.
    #[error(transparent)]
    NotMemory(#[from] OutOfRange),
    /// Memory was granted in a way that does not allow the access.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The available index moved by more than the queue holds.
    #[error("available index {now} after {seen} in a queue of {size}")]
    IndexJump {
        /// The device's own index.
        seen: u16,
        /// What the driver says.
        now: u16,
        /// Size of the queue.
        size: u16,
    },
    /// A head or a link names no descriptor of its table.
    #[error("descriptor {index} in a table of {size}")]
    NoDescriptor {
        /// The index.
        index: u32,
        /// Descriptors there are.
        size: u32,
    },
    /// A head was made available again while it is in flight, or more descriptors are in flight than
    /// the queue has.
    #[error("descriptor {0} was made available while it is in flight")]
    InFlight(u16),
    /// A chain links more descriptors than its table has, so it loops; or more than a chain may have.
    #[error("a chain of more than {0} descriptors")]
    Endless(u32),
    /// An indirect table holds an indirect descriptor.
    #[error("an indirect descriptor within an indirect table")]
    NestedIndirect,
    /// Indirect descriptors were not negotiated.
    #[error("an indirect descriptor that was not negotiated")]
    UnexpectedIndirect,
    /// An indirect descriptor has a successor in its chain.
    #[error("an indirect descriptor that goes on in its own table")]
    IndirectWithNext,
    /// The length of an indirect table is no multiple of a descriptor's, or none.
    #[error("an indirect table of {0} bytes")]
    IndirectLength(u32),
    /// A descriptor to read follows one to write.
    #[error("a descriptor to read behind one to write")]
    ReadAfterWrite,
    /// A chain names more than 2³² bytes.
    #[error("a chain of {0:#x} bytes")]
    TooLong(u64),
    /// A buffer does not lie in guest memory.
    #[error("a buffer outside guest memory: {0}")]
    Buffer(GuestRange),
}
