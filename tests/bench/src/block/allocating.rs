//! Writes that allocate: each goes to a cluster of its own in an empty qcow2 image.
//!
//! The peer is `qemu-img bench`, which has no frontend to serve. Beside it stand `bulkhead-img bench`, which has
//! none either, and what is served over vhost-user by the processes that serve a guest. Everything of either
//! side runs on CPU 0, our frontend as well.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::command::{command, output, text, timed};
use super::table::{Figure, Line, Unit, take_turns};
use crate::Arguments;
use crate::contender::{Contender, Disk};
use crate::load::{Load, Pattern};
use crate::measure::Run;
use crate::place::Place;
use bulkhead_harness::programs;

/// Bytes of a cluster, and from one write to the next.
const STEP: u64 = 64 << 10;

/// In memory, and on a disk past the page cache.
struct Where<'a> {
    name: &'a str,
    served: &'a str,
    folder: &'a Path,
    direct: bool,
    writes: u64,
    wanted: f64,
}

/// Both lines.
pub fn run(arguments: &Arguments) -> Result<()> {
    let memory = Where {
        name: "allocating 4 KiB writes, 32, tmpfs",
        served: "the same, served, tmpfs",
        folder: &arguments.memory,
        direct: false,
        writes: 32_768,
        wanted: 5.0,
    };
    let disk = Where {
        name: "allocating 4 KiB writes, 32, O_DIRECT",
        served: "the same, served, O_DIRECT",
        folder: &arguments.disk,
        direct: true,
        writes: 16_384,
        wanted: 1.5,
    };
    let own = programs::folder().join("bulkhead-img");
    for place in [memory, disk] {
        if arguments.wants(place.name) {
            let turns: &mut [super::table::Turn<'_>] = &mut [
                Box::new(|| bench("qemu-img", &place)),
                Box::new(|| bench(text(&own), &place)),
                Box::new(|| served(&place)),
            ];
            let figures = take_turns(arguments.rounds, turns)?;
            let line = |what| Line {
                what,
                peer: "qemu-img bench",
                unit: Unit::Requests,
                wanted: place.wanted,
            };
            line(place.name).print(&figures[0], &figures[1]);
            line(place.served).print(&figures[0], &figures[2]);
        }
    }
    Ok(())
}

fn empty(place: &Where<'_>) -> Result<tempfile::TempPath> {
    let path = tempfile::NamedTempFile::new_in(place.folder)?.into_temp_path();
    let size = (place.writes * STEP).to_string();
    output(&mut command(&["qemu-img", "create", "-q", "-f", "qcow2", text(&path), &size]))?;
    Ok(path)
}

fn bench(program: &str, place: &Where<'_>) -> Result<Figure> {
    let image = empty(place)?;
    let (writes, step) = (place.writes.to_string(), STEP.to_string());
    let mut command = command(&["taskset", "-c", "0", program, "bench", "-w", "-f", "qcow2"]);
    command.args(["-d", "32", "-s", "4096", "-S", &step, "-c", &writes]);
    command.args(match (place.direct, program) {
        (true, "qemu-img") => &["-t", "none", "-i", "native"][..],
        (true, _) => &["-t", "none"],
        (false, _) => &[],
    });
    let _awake = Place::Split.spinners()?;
    let took = timed(command.arg(&image))?;
    let writes = place.writes as f64;
    Ok(Figure { value: writes / took.value, cpu: took.cpu.map(|cpu| cpu / writes) })
}

fn served(place: &Where<'_>) -> Result<Figure> {
    let image = empty(place)?;
    let contender = Contender::ours(&Disk::qcow2(&image, place.direct), 1, Place::Same.backend());
    let pattern = Pattern::WriteOnce { step: STEP };
    let load = Load { pattern, block: 4096, depth: 32, size: place.writes * STEP };
    let run = Run { place: Place::Same, queues: 1, load, time: Duration::from_secs(60) };
    let _awake = Place::Split.spinners()?;
    let done = run.measure(&contender)?;
    Ok(Figure { value: done.rate, cpu: Some(done.cpu) })
}
