//! How much memory the block layer takes with an image that is far larger than its caches.

use anyhow::Result;

use super::command::{command, output, text};
use super::table::bound;
use crate::Arguments;
use crate::contender::{Contender, Disk};
use crate::load::{Load, Pattern};
use crate::measure::Run;
use crate::place::Place;

const NAME: &str = "memory of block-layer (PSS), qcow2 of 1 TiB";

/// Bytes of the disk.
const SIZE: u64 = 1 << 40;

/// After random writes all over the disk, and random reads.
pub fn run(arguments: &Arguments) -> Result<()> {
    if !arguments.wants(NAME) {
        return Ok(());
    }
    let path = tempfile::NamedTempFile::new_in(&arguments.memory)?.into_temp_path();
    output(&mut command(&["qemu-img", "create", "-q", "-f", "qcow2", text(&path), "1T"]))?;
    let own = Contender::ours(&Disk::qcow2(&path, false), 1, Place::Same.backend());
    for pattern in [Pattern::RandomWrite, Pattern::RandomRead] {
        let load = Load { pattern, block: 4096, depth: 32, size: SIZE };
        Run { place: Place::Same, queues: 1, load, time: arguments.time() }.measure(&own)?;
    }
    let kib = own.memory("block-layer").unwrap_or(0);
    bound(NAME, &format!("{:.1} MiB", kib as f64 / 1024.0), "16 MiB");
    Ok(())
}
