//! The ring algorithm itself, free of mappings and types, so that the model checks the code that runs.
//!
//! A ring is a tail (written by its producer), a head and an armed flag (written by its consumer) and
//! a power of two of slots. Indices count entries since the ring was made, modulo 2³²; slot `i` holds
//! entry `n` when `n % slots == i`. Called by [`roles`](crate::roles) over a mapping and by the loom
//! model over loom's cells.
//!
//! Who wakes whom: the consumer stores *armed* and then looks at *tail* once more; the producer stores
//! *tail* and then looks at *armed*. Between store and look both have a SeqCst fence, so at least one
//! sees the other's store: no wake-up is lost.

mod atomics;
mod consumer;
mod fault;
mod lines;
mod producer;

pub use consumer::Armed;
pub(crate) use consumer::RawConsumer;
pub use fault::{Index, PeerFault, PushError};
pub(crate) use lines::{Lines, SLOT_WORDS};
pub(crate) use producer::RawProducer;
pub use producer::Wake;

#[cfg(not(loom))]
pub(crate) use atomics::AtomicU32;

#[cfg(all(test, loom))]
mod loom_model;
