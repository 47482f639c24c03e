//! The rows of `make bench`.

use anyhow::Result;

use crate::Arguments;
use crate::contender::{Contender, Disk, SIZE, image};
use crate::load::{Load, Pattern};
use crate::measure::Run;
use crate::place::Place;
use crate::report;

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What it is called.
    pub name: &'static str,
    place: Place,
    queues: u16,
    pattern: Pattern,
    block: u32,
    depth: u16,
    /// On a disk, past the page cache, instead of in memory.
    direct: bool,
    /// Ratio to the peer that we want.
    pub wanted: f64,
}

/// 4 KiB random reads at depth 32 in memory, everything on CPU 0; the others differ from it.
const PLAIN: Row = Row {
    name: "",
    place: Place::Same,
    queues: 1,
    pattern: Pattern::RandomRead,
    block: 4096,
    depth: 32,
    direct: false,
    wanted: 1.0,
};

/// All rows.
pub fn all() -> Vec<Row> {
    let write = Row { pattern: Pattern::RandomWrite, ..PLAIN };
    let stream = Row { pattern: Pattern::SequentialRead, block: 128 << 10, depth: 8, ..PLAIN };
    let direct = Row { direct: true, place: Place::Split, ..PLAIN };
    vec![
        Row { name: "4k read depth 1, all on CPU 0", depth: 1, ..PLAIN },
        Row { name: "4k read depth 1, split", depth: 1, place: Place::Split, ..PLAIN },
        Row { name: "4k read depth 32, all on CPU 0", wanted: 2.0, ..PLAIN },
        Row { name: "4k read depth 32, split", place: Place::Split, wanted: 1.2, ..PLAIN },
        Row { name: "4k read two queues of 32", queues: 2, place: Place::PerQueue, ..PLAIN },
        Row { name: "4k write depth 32, all on CPU 0", ..write },
        Row { name: "128k sequential read depth 8, all on CPU 0", wanted: 0.9, ..stream },
        Row {
            name: "128k sequential read depth 8, split",
            place: Place::Split,
            wanted: 0.9,
            ..stream
        },
        Row { name: "4k read depth 1, O_DIRECT on disk", depth: 1, ..direct },
        Row { name: "4k read depth 32, O_DIRECT on disk", ..direct },
    ]
}

/// Measures a row and prints it.
pub fn run(row: &Row, arguments: &Arguments) -> Result<()> {
    let folder = if row.direct { &arguments.disk } else { &arguments.memory };
    let (theirs, ours) = (image(folder)?, image(folder)?);
    let cpus = row.place.backend();
    let peer = Contender::peer(&Disk::raw(theirs.path(), row.direct), row.queues, cpus)?;
    let own = Contender::ours(&Disk::raw(ours.path(), row.direct), row.queues, cpus);
    let _awake = row.place.spinners()?;
    let load = Load { pattern: row.pattern, block: row.block, depth: row.depth, size: SIZE };
    let run = Run { place: row.place, queues: row.queues, load, time: arguments.time() };
    let (mut peers, mut owns) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        peers.push(run.measure(&peer)?);
        owns.push(run.measure(&own)?);
    }
    report::row(row.name, row.block, &peers, &owns, row.wanted);
    Ok(())
}
