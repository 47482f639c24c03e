//! What may travel in a slot: plain data of 32 or 64 bytes, copied out once.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::algorithm::SLOT_WORDS;

/// A request or completion. Any bytes must be a value of it (zerocopy proves that), since a peer may
/// write any bytes: an entry is an allegation like any other.
pub trait Entry: FromBytes + IntoBytes + Immutable + Copy + Send + 'static {
    /// Words of 64 bits in an entry. Does not compile for a size other than 32 or 64 bytes.
    const WORDS: usize = {
        assert!(size_of::<Self>() == 32 || size_of::<Self>() == 64, "an entry has 32 or 64 bytes");
        size_of::<Self>() / 8
    };
}

/// The words of an entry, in order.
#[inline]
pub(crate) fn to_words<E: Entry>(entry: &E) -> impl Iterator<Item = u64> {
    let (words, _none) = entry.as_bytes().as_chunks();
    words.iter().map(|word| u64::from_ne_bytes(*word)).take(E::WORDS)
}

/// The entry whose words these are.
#[inline]
pub(crate) fn from_words<E: Entry>(words: &[u64; SLOT_WORDS]) -> E {
    let mut entry = E::new_zeroed();
    let (places, _none) = entry.as_mut_bytes().as_chunks_mut();
    for (place, word) in places.iter_mut().zip(words) {
        *place = word.to_ne_bytes();
    }
    entry
}
