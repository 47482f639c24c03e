//! The header of a message: twelve bytes in the host's order.

use super::WireFault;

/// Bytes of a header.
pub(super) const HEADER: usize = 12;

/// Longest body that is read. `SET_MEM_TABLE` is the longest message that has a meaning here.
pub(super) const LONGEST_BODY: u32 = 4096;

const VERSION: u32 = 1;
const VERSION_MASK: u32 = 3;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

/// A checked header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) request: u32,
    pub(super) need_reply: bool,
    pub(super) size: u32,
}

impl Header {
    /// The header of a request, if it is one.
    pub(super) fn decode(bytes: [u8; HEADER]) -> Result<Self, WireFault> {
        let [request, flags, size] = words(bytes);
        if flags & VERSION_MASK != VERSION || flags & REPLY != 0 {
            return Err(WireFault::Flags(flags));
        }
        if size > LONGEST_BODY {
            return Err(WireFault::TooLong(size));
        }
        Ok(Self { request, need_reply: flags & NEED_REPLY != 0, size })
    }

    /// The header of the reply to `request`.
    pub(super) fn of_reply(request: u32, size: usize) -> [u8; HEADER] {
        bytes([request, VERSION | REPLY, size as u32])
    }

    /// The header of a request of our own, to which no reply is wanted.
    pub(super) fn of_request(request: u32, size: usize) -> [u8; HEADER] {
        bytes([request, VERSION, size as u32])
    }
}

fn words(bytes: [u8; HEADER]) -> [u32; 3] {
    let (words, _) = bytes.as_chunks();
    let mut each = words.iter().map(|word| u32::from_ne_bytes(*word));
    std::array::from_fn(|_| each.next().unwrap_or(0))
}

fn bytes(words: [u32; 3]) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_what_it_said() {
        let header = Header::decode(Header::of_request(24, 100)).unwrap();
        assert_eq!(header, Header { request: 24, need_reply: false, size: 100 });
    }

    #[test]
    fn replies_other_versions_and_giants_are_refused() {
        assert!(matches!(Header::decode(Header::of_reply(1, 8)), Err(WireFault::Flags(5))));
        assert!(matches!(Header::decode(bytes([1, 2, 0])), Err(WireFault::Flags(2))));
        let giant = bytes([1, 1, LONGEST_BODY + 1]);
        assert!(matches!(Header::decode(giant), Err(WireFault::TooLong(4097))));
    }
}
