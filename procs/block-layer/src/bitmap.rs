//! Which parts of a disk have been written: one bit for each granule.
//!
//! | type | what |
//! | --- | --- |
//! | [`Bits`] | the bits |
//! | [`Marks`] | the same, in use by a job or not |
//! | [`Bitmap`] | the same, shared, and recording or not |
//!
//! Persistent bitmaps of images ([`crate::qcow2::bitmaps`]) are [`Marks`] that a file keeps; bitmaps in memory and
//! what a mirror or backup has left to do are [`Bitmap`]s. Whoever means either says
//! [`Marked`](crate::disk::Marked).
//!
//! Law: a bit that is wrong is set. A write sets every granule that it touches; clearing clears only granules that
//! lie wholly in the range.

mod bits;
mod marks;
mod shared;

pub use bits::{Bits, LEAST_GRANULARITY, MOST_GRANULARITY};
pub use marks::{Busy, Marks};
pub use shared::Bitmap;
