//! `--cpu soft,trace=FILE`: what the software CPU executes, into a file.
//!
//! soft-cpu may write no file: it sends pieces of text, and leaves out what is not taken in time. A
//! thread here takes them and writes. Nothing bounds the file but how fast the guest gives cause.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::Context;
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::seqpacket;

use super::outlet::Drained;
use crate::refusal::refuse;

/// Longest piece.
const PIECE: usize = 16 << 10;

/// A guest may be silent for as long as it likes.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Makes the file anew; soft-cpu's end of the stream, and when all of it is written.
pub fn begin(path: &Path) -> anyhow::Result<(OwnedFd, Drained)> {
    let file = File::create(path).map_err(|error| {
        let value = format!("soft,trace={}", path.display());
        refuse("--cpu", &value, error.to_string(), "give a file you can write")
    })?;
    let (theirs, ours) = seqpacket::pair().context("cannot make the stream of the trace")?;
    let (done, drained) = channel();
    std::thread::Builder::new().name("trace".into()).spawn(move || {
        let _done = done;
        if let Err(error) = write(&ours, file) {
            eprintln!("bulkhead: the trace ends here: {error}");
        }
    })?;
    Ok((theirs, drained))
}

fn write(stream: &OwnedFd, mut file: File) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let got = seqpacket::receive_by(stream.as_fd(), &mut piece, Deadline::after(FOR_EVER))?;
        if got.len == 0 {
            return Ok(());
        }
        file.write_all(piece.get(..got.len).unwrap_or_default())?;
    }
}
