//! Names of the descriptors that the event loop watches.

use bulkhead_sys::poller;

/// Index of a post.
pub type PostIndex = usize;

/// Which descriptor has news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// The command's channel.
    Session,
    /// SIGTERM and its like.
    Signals,
    /// The launcher.
    Launcher(Part),
    /// A helper.
    Post(PostIndex, Part),
    /// The listening socket of a disk.
    Listener(usize),
}

/// Which of a process's descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its channel.
    Channel,
    /// Its log pipe.
    Log,
    /// Its pidfd.
    Death,
}

const INDEX_BITS: u32 = 32;

impl Token {
    /// As the poller keeps it.
    pub fn encode(self) -> poller::Token {
        let (kind, index) = match self {
            Self::Session => (0, 0),
            Self::Signals => (1, 0),
            Self::Launcher(part) => (2 + part as u64, 0),
            Self::Listener(disk) => (5, disk as u64),
            Self::Post(post, part) => (6 + part as u64, post as u64),
        };
        kind << INDEX_BITS | index
    }

    /// From the poller; `None` for what was never encoded.
    pub fn decode(token: poller::Token) -> Option<Self> {
        let index = (token & ((1 << INDEX_BITS) - 1)) as usize;
        let part = |number| match number {
            0 => Part::Channel,
            1 => Part::Log,
            _ => Part::Death,
        };
        Some(match token >> INDEX_BITS {
            0 => Self::Session,
            1 => Self::Signals,
            kind @ 2..=4 => Self::Launcher(part(kind - 2)),
            5 => Self::Listener(index),
            kind @ 6..=8 => Self::Post(index, part(kind - 6)),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_went() {
        let parts = [Part::Channel, Part::Log, Part::Death];
        let mut all = vec![Token::Session, Token::Signals, Token::Listener(28)];
        all.extend(parts.map(Token::Launcher));
        all.extend(parts.map(|part| Token::Post(70, part)));
        for token in all {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
        assert_eq!(Token::decode(9 << INDEX_BITS), None);
    }
}
