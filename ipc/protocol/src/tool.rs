//! The `bulkhead-img` command ↔ block-tool, the sealed process that does its work.
//!
//! ```text
//! bulkhead-img                              block-tool
//!   |--- a command + opened files ---------->|
//!   |<-- Progress, what was found … ---------|
//!   |<-- Done, or Failed --------------------|  what was written is in the files; it exits
//! ```
//!
//! One command in the life of a process. Law: no path crosses; a file is its place among the descriptors of
//! the command, and what an image says of other files is text. Whatever may be long comes in pieces, so
//! that no message comes near the limit of a datagram.

mod command;
mod event;
mod image;

pub use command::{
    Amendment, BenchPlan, BitmapChange, BrokenBitmaps, ConvertPlan, PlannedDisk, Repair,
    SizeChange, SnapshotAction, ToolCommand,
};
pub use event::{
    BitmapFacts, CheckFacts, Compared, ImageFacts, LuksFacts, Qcow2Facts, Range, SlotFacts,
    SnapshotFacts, ToolEvent,
};
pub use image::{Compression, NewImage, Preallocation};

/// Ranges of one message at most.
pub const MOST_RANGES: usize = 512;

/// Bytes of a text of one message at most: what an image says is cut there.
pub const LONGEST_TEXT: usize = 4096;

/// Most threads that compress, read and write.
pub const MOST_THREADS: usize = 16;

/// Pieces of a disk that are on their way at a time, as qemu-img has it unless it is told otherwise.
pub const USUAL_PIECES: u16 = 8;
