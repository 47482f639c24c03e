//! The rows, and how one is measured.

use std::time::Duration;

use anyhow::Result;
use bulkhead_harness::frontend::{Frontend, Options};
use bulkhead_sys::cpu;

use crate::Arguments;
use crate::contender::{Contender, SIZE, image};
use crate::load::{Done, Load, Pattern, drive};
use crate::place::Place;
use crate::report::{self, Figures};

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
    let peer = Contender::peer(theirs.path(), row.direct, row.queues, cpus)?;
    let own = Contender::ours(ours.path(), row.direct, row.queues, cpus);
    let _awake = row.place.spinners()?;
    let (mut peers, mut owns) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        peers.push(measure(row, &peer, arguments.time())?);
        owns.push(measure(row, &own, arguments.time())?);
    }
    report::row(row.name, row.block, &peers, &owns, row.wanted);
    Ok(())
}

fn measure(row: &Row, contender: &Contender, time: Duration) -> Result<Figures> {
    let options = Options::new(row.queues, row.depth);
    let (_frontend, queues) = Frontend::connect_with(contender.socket(), options)?;
    let load = Load { pattern: row.pattern, block: row.block, depth: row.depth, size: SIZE };
    let place = row.place;
    let warm_up = time / 10;
    let drivers = queues.into_iter().enumerate().map(|(number, mut queue)| {
        std::thread::spawn(move || -> Result<_> {
            cpu::restrict(0, &[place.driver(number)])?;
            drive(&mut queue, load, warm_up)?;
            Ok(queue)
        })
    });
    let warm: Vec<_> = drivers.collect();
    let warm = warm.into_iter().map(join).collect::<Result<Vec<_>>>()?;
    let before = contender.cpu_time();
    let drivers = warm.into_iter().enumerate().map(|(number, mut queue)| {
        std::thread::spawn(move || -> Result<Done> {
            cpu::restrict(0, &[place.driver(number)])?;
            drive(&mut queue, load, time)
        })
    });
    let drivers: Vec<_> = drivers.collect();
    let done = drivers.into_iter().map(join).collect::<Result<Vec<_>>>()?;
    let cpu = contender.cpu_time() - before;
    let requests: u64 = done.iter().map(|done| done.requests).sum();
    let rate = done.iter().map(|done| done.requests as f64 / done.time.as_secs_f64()).sum();
    Ok(Figures { rate, cpu: cpu.as_secs_f64() / requests.max(1) as f64 })
}

fn join<T>(thread: std::thread::JoinHandle<Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| anyhow::bail!("a driver panicked"))
}
