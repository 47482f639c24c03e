//! What a peer can do wrong to a ring. Blame is in the name.

/// One of a ring's two indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// The producer's.
    Tail,
    /// The consumer's.
    Head,
}

/// The peer moved its index as no honest peer can: back, or past what there is. Drop the peer; the
/// ring is left as it was before the look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer moved its {index:?} from {seen} to {now}, at most {most} further was possible")]
pub struct PeerFault {
    /// Which index.
    pub index: Index,
    /// What it was at the last look.
    pub seen: u32,
    /// What it is now.
    pub now: u32,
    /// How many entries it could have moved.
    pub most: u32,
}

impl PeerFault {
    /// Judges a look at the peer's index: `Ok(now)` if it moved 0 to `most` entries since `seen`.
    /// A move back is a huge move forward modulo 2³².
    #[inline]
    pub(crate) fn look(index: Index, seen: u32, now: u32, most: u32) -> Result<u32, PeerFault> {
        match now.wrapping_sub(seen) <= most {
            true => Ok(now),
            false => Err(PeerFault { index, seen, now, most }),
        }
    }
}

/// Why an entry could not be pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// All slots hold entries that the consumer has not taken. A client waits for a completion; a
    /// server blames the client, which has more requests outstanding than the ring has entries.
    #[error("the ring is full")]
    Full,
    /// The consumer's index is impossible.
    #[error(transparent)]
    Peer(#[from] PeerFault),
}
