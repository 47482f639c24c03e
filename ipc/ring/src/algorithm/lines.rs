//! What the two ends of one ring share.

use super::atomics::AtomicU32;

/// 64-bit words in a slot.
pub(crate) const SLOT_WORDS: usize = crate::geometry::SLOT_LEN / 8;

/// The shared words of one ring, wherever they are. Slots are words and not bytes so that reading one
/// while a hostile peer writes it is merely a torn value and never undefined.
///
/// Law of both ends: a slot is touched only between an Acquire look that gave it to this end and the
/// Release store that gives it away. The model checks that; a mapping cannot, and uses relaxed atomics.
pub(crate) trait Lines {
    /// Entries published since the ring was made. Written by the producer.
    fn tail(&self) -> &AtomicU32;
    /// Entries taken since the ring was made. Written by the consumer.
    fn head(&self) -> &AtomicU32;
    /// Not 0 while the consumer sleeps or is about to. Set by the consumer, cleared by both.
    fn armed(&self) -> &AtomicU32;
    /// Reads word `word` (modulo the slot's length) of slot `index` (modulo the number of slots).
    fn read(&self, index: u32, word: usize) -> u64;
    /// Writes word `word` (modulo the slot's length) of slot `index` (modulo the number of slots).
    fn write(&self, index: u32, word: usize, value: u64);
    /// Number of slots, a power of two, from the plan.
    fn slots(&self) -> u32;
}
