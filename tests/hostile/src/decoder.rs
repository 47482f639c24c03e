//! The decoders, by name. A name is a file here, a test, and a target of `tests/fuzz`.

pub mod block_request;
pub mod codec;
pub mod engine_end;
pub mod guest_code;
pub mod inflight_packed;
pub mod inflight_split;
pub mod kernel;
pub mod luks_header;
pub mod machine;
pub mod nbd_answers;
pub mod nbd_handshake;
pub mod nbd_request;
pub mod packed_queue;
pub mod page_tables;
pub mod pci;
pub mod profile;
pub mod qcow2;
pub mod qcow2_bitmaps;
pub mod qcow2_counts;
pub mod qcow2_header;
pub mod qcow2_packed;
pub mod qcow2_snapshots;
pub mod qcow2_tables;
pub mod ring;
pub mod ring_header;
pub mod split_queue;
pub mod vhost_backend;
pub mod vhost_frontend;

pub(crate) mod guest;
mod qcow2_part;
mod recovery;

/// What a decoder made of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Some of it was taken for what it says.
    Accepted,
    /// Nothing of it.
    Refused,
}

impl Verdict {
    /// Of something that can fail.
    pub fn of<T, E>(result: &Result<T, E>) -> Self {
        Self::accepted_if(result.is_ok())
    }

    /// Of something that happened or did not.
    pub fn accepted_if(accepted: bool) -> Self {
        if accepted { Self::Accepted } else { Self::Refused }
    }
}

/// A decoder under attack.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    /// Its name.
    pub name: &'static str,
    /// Gives it an input, and asserts what must hold whatever that is.
    pub run: fn(&[u8]) -> Verdict,
    /// Inputs that it accepts, from which others are made.
    pub samples: fn() -> Vec<Vec<u8>>,
}

macro_rules! decoders {
    ($($name:ident)*) => {
        /// Every decoder.
        pub const DECODERS: &[Decoder] = &[
            $(Decoder { name: stringify!($name), run: $name::run, samples: $name::samples }),*
        ];
    };
}

decoders! {
    block_request codec engine_end guest_code inflight_packed inflight_split kernel luks_header machine
    nbd_answers nbd_handshake nbd_request packed_queue page_tables pci profile qcow2 qcow2_bitmaps qcow2_counts qcow2_header
    qcow2_packed qcow2_snapshots qcow2_tables ring ring_header split_queue vhost_backend
    vhost_frontend
}

/// The decoder of that name.
pub fn named(name: &str) -> Option<&'static Decoder> {
    DECODERS.iter().find(|decoder| decoder.name == name)
}
