//! What a probe is told to try, and what it says came of it.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

/// To a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Make the attempt of that name. Descriptors follow where the attempt needs some.
    Try {
        /// Its name.
        name: String,
        /// Numbers it needs (pids, descriptor counts).
        numbers: Vec<i64>,
        /// Descriptors that come along.
        fds: u8,
    },
    /// Say which attempts there are.
    List,
    /// Keep the descriptors that follow, as a helper would that was handed too many.
    Hold {
        /// How many.
        fds: u8,
    },
    /// Make one system call.
    Call {
        /// By which entry.
        abi: Abi,
        /// Its number.
        number: u64,
        /// Its arguments.
        arguments: [u64; 6],
    },
    /// Make a harmless call many times and say how long one takes.
    Cost {
        /// Its number.
        number: u64,
        /// Its arguments.
        arguments: [u64; 6],
        /// How often.
        times: u32,
    },
}

/// A way into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Abi {
    /// `syscall` with x86-64's numbers.
    Native,
    /// `syscall` with the bit of x32.
    X32,
    /// `int 0x80` with i386's numbers.
    I386,
}

/// From a probe that lived on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// The kernel refused, with this errno.
    Refused(i32),
    /// It came through; this is what it got.
    Reached(Vec<u8>),
    /// Names of all attempts, each after its group and a slash.
    Attempts(Vec<String>),
    /// No attempt has that name.
    Unknown,
}

impl Message for Order {
    fn fd_count(&self) -> usize {
        match self {
            Self::Try { fds, .. } | Self::Hold { fds } => usize::from(*fds),
            Self::List | Self::Call { .. } | Self::Cost { .. } => 0,
        }
    }
}

impl Message for Told {}
