//! `compare`. Exit codes as qemu-img's: 0 equal, 1 different, 2 on an error.

use std::process::ExitCode;

use anyhow::Result;
use bulkhead_block_layer::memory::Heap;
use bulkhead_block_layer::qcow2::Options;

use crate::cli::{self, Chain};
use crate::disk::{Disk, Files};
use crate::seal;

/// Bytes that are compared at a time.
const PIECE: u64 = 1 << 20;

/// `compare`
pub fn run(options: &cli::Compare) -> Result<ExitCode> {
    match compare(options) {
        Ok(equal) => Ok(if equal { ExitCode::SUCCESS } else { ExitCode::from(1) }),
        Err(error) => {
            eprintln!("bulkhead-img: {error:#}");
            Ok(ExitCode::from(2))
        }
    }
}

fn compare(options: &cli::Compare) -> Result<bool> {
    let tell = |text: String| {
        if !options.quiet {
            println!("{text}");
        }
    };
    let first = Files::open(options.first_format, &options.first, &options.chain, true)?;
    let second = Files::open(options.second_format, &options.second, &Chain::default(), true)?;
    seal::seal()?;
    let (first, second) = (first.disk(Options::READ)?, second.disk(Options::READ)?);
    let (short, long) = (first.size().min(second.size()), first.size().max(second.size()));
    if short != long && options.strict {
        tell("Strict mode: Image size mismatch!".to_owned());
        return Ok(false);
    }
    if short != long {
        tell("Warning: Image size mismatch!".to_owned());
    }
    let mut at = 0;
    while at < long {
        let len = PIECE.min(if at < short { short } else { long } - at);
        let (a, b) = (bytes(&first, at, len)?, bytes(&second, at, len)?);
        if let Some(offset) = a.iter().zip(&b).position(|(a, b)| a != b) {
            let place = (at + offset as u64) / 512 * 512;
            tell(format!("Content mismatch at offset {place}!"));
            return Ok(false);
        }
        at += len;
    }
    tell("Images are identical.".to_owned());
    Ok(true)
}

/// What lies behind the end of a disk is zeroes.
fn bytes(disk: &Disk, at: u64, len: u64) -> Result<Vec<u8>> {
    let heap = Heap::zeroes(len as usize);
    if at < disk.size() {
        disk.read(at, &heap)?;
    }
    Ok(heap.to_vec())
}
