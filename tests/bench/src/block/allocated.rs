//! Requests to clusters that are there: qcow2 beside our own raw, and beside qemu-storage-daemon's qcow2.

use anyhow::Result;

use super::command::{command, output, text};
use super::table::{Figure, Line, Turn, Unit, take_turns};
use crate::Arguments;
use crate::contender::{Contender, Disk, SIZE, image};
use crate::load::{Load, Pattern};
use crate::measure::Run;
use crate::place::Place;

const ROWS: [(&str, Pattern, u16); 3] = [
    ("qcow2, 4 KiB random read, 1", Pattern::RandomRead, 1),
    ("qcow2, 4 KiB random read, 32", Pattern::RandomRead, 32),
    ("qcow2, 4 KiB random write, 32", Pattern::RandomWrite, 32),
];

/// Two lines for each row.
pub fn run(arguments: &Arguments) -> Result<()> {
    if !ROWS.iter().any(|(name, ..)| arguments.wants(name)) {
        return Ok(());
    }
    let raw = image(&arguments.memory)?;
    let place = Place::Same;
    let copy = || -> Result<tempfile::TempPath> {
        let path = tempfile::NamedTempFile::new_in(&arguments.memory)?.into_temp_path();
        let (from, to) = (text(raw.path()), text(&path));
        output(&mut command(&["qemu-img", "convert", "-f", "raw", "-O", "qcow2", from, to]))?;
        Ok(path)
    };
    let (theirs, ours) = (copy()?, copy()?);
    let peer = Contender::peer(&Disk::qcow2(&theirs, false), 1, place.backend())?;
    let plain = Contender::ours(&Disk::raw(raw.path(), false), 1, place.backend());
    let own = Contender::ours(&Disk::qcow2(&ours, false), 1, place.backend());
    for (name, pattern, depth) in ROWS.iter().filter(|(name, ..)| arguments.wants(name)) {
        let load = Load { pattern: *pattern, block: 4096, depth: *depth, size: SIZE };
        let run = Run { place, queues: 1, load, time: arguments.time() };
        // What nobody has asked for yet a lane does not know.
        run.measure(&own)?;
        let turn = |contender| -> Turn<'_> {
            Box::new(move || {
                let done = run.measure(contender)?;
                Ok(Figure { value: done.rate, cpu: Some(done.cpu) })
            })
        };
        let turns = &mut [turn(&peer), turn(&plain), turn(&own)];
        let figures = take_turns(arguments.rounds, turns)?;
        let line = |peer, wanted| Line { what: name, peer, unit: Unit::Requests, wanted };
        line("qemu-storage-daemon, qcow2", 1.5).print(&figures[0], &figures[2]);
        line("Bulkhead, raw", 0.95).print(&figures[1], &figures[2]);
    }
    Ok(())
}
