//! What a backend did wrong. Each is one sentence for the operator, beginning after "the backend".

use std::io;

use vhost::vhost_user::message::FrontendReq;

/// Why a connection ended. The backend (Peer) is to blame unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It closed the connection.
    #[error("hung up")]
    HungUp,
    /// It did not answer in time.
    #[error("did not answer {request:?} within {millis} ms")]
    Silent {
        /// What it was asked.
        request: FrontendReq,
        /// How long it had.
        millis: u128,
    },
    /// A header that no reply has.
    #[error("sent a malformed header (request {request}, flags {flags:#x}, {size} bytes)")]
    Header {
        /// Request number.
        request: u32,
        /// Flags.
        flags: u32,
        /// Size of the body.
        size: u32,
    },
    /// A body that is not what the request is answered with.
    #[error("answered {request:?} with a body of {len} bytes that makes no sense")]
    Body {
        /// What it was asked.
        request: FrontendReq,
        /// Bytes of the body.
        len: usize,
    },
    /// A reply that nobody is waiting for.
    #[error("sent a reply to request {request} that is not due")]
    Unsolicited {
        /// Request number.
        request: u32,
    },
    /// Descriptors that do not belong to the reply.
    #[error("sent {0} descriptors that do not belong to any reply")]
    SurplusDescriptors(usize),
    /// A request of its own that was not agreed on.
    #[error("made request {request} ({size} bytes), which was not agreed on")]
    Request {
        /// Request number.
        request: u32,
        /// Size of the body.
        size: u32,
    },
    /// It makes requests faster than it takes the answers.
    #[error("floods its request channel")]
    Flood,
    /// It refused what it was told.
    #[error("refused {request:?} (error {code})")]
    Refused {
        /// What it was told.
        request: FrontendReq,
        /// The number it gave.
        code: u64,
    },
    /// It has not what the plan needs.
    #[error("lacks {0}")]
    Lacks(&'static str),
    /// It has fewer queues than the plan.
    #[error("has {has} queues, {planned} were planned")]
    TooFewQueues {
        /// How many it has.
        has: u64,
        /// How many were planned.
        planned: u16,
    },
    /// It contradicts itself about its queues.
    #[error(
        "lies about its queues: {queues} by GET_QUEUE_NUM, {config} in the configuration space"
    )]
    QueueLie {
        /// By GET_QUEUE_NUM.
        queues: u64,
        /// In the configuration space.
        config: u16,
    },
    /// Its features are not those that the guest was offered.
    #[error("offers other features than before: {before:#x} became {after:#x}")]
    FeaturesChanged {
        /// What the guest was offered.
        before: u64,
        /// What it would be offered now.
        after: u64,
    },
    /// It made an in-flight table of another shape than it was asked for.
    #[error("made an in-flight table for {queues} queues of {queue_size}, which nobody asked for")]
    InflightShape {
        /// Queues.
        queues: u16,
        /// Slots of each.
        queue_size: u16,
    },
    /// It stopped a queue at an impossible place.
    #[error("says that queue {index} stopped at {base}, which cannot be")]
    Base {
        /// Number of the queue.
        index: u32,
        /// Where it is said to have stopped.
        base: u32,
    },
    /// Core activated rings that are not in guest memory (Bug).
    #[error("was to be given rings that cannot be used: {0}")]
    Rings(String),
    /// The host's kernel refused (Host).
    #[error("cannot be reached: {0}")]
    Host(#[from] io::Error),
}

impl Fault {
    /// What a failed call on the socket means.
    pub(crate) fn socket(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::HungUp,
            _ => Self::Host(error),
        }
    }
}
