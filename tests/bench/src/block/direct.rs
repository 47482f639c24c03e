//! Direct I/O on a disk, beside fio, which nothing separates from the file: its figure is the ceiling. Threads
//! stand beside threads, Linux AIO beside Linux AIO.

use std::process::Command;

use anyhow::{Context, Result};

use super::command::{output, text};
use super::table::{Figure, Line, Turn, Unit, take_turns};
use crate::Arguments;
use crate::contender::{Contender, Disk, SIZE, image};
use crate::load::{Load, Pattern};
use crate::measure::Run;
use crate::place::Place;

/// At depth 1 nothing is gained by a second CPU, and each wake-up of one costs more than all our work.
const ROWS: [(&str, u16, Place); 2] = [
    ("raw, 4 KiB random read, 1, O_DIRECT", 1, Place::Same),
    ("raw, 4 KiB random read, 32, O_DIRECT", 32, Place::Split),
];

/// Two lines for each row: fio with threads and with Linux AIO.
pub fn run(arguments: &Arguments) -> Result<()> {
    if !ROWS.iter().any(|(name, ..)| arguments.wants(name)) {
        return Ok(());
    }
    // Each of ours locks the image that it serves.
    let (image, other) = (image(&arguments.disk)?, image(&arguments.disk)?);
    let disks = [Disk::raw(image.path(), true), Disk::raw(other.path(), true).native()];
    let [threads, native] = disks.map(|disk| Contender::ours(&disk, 1, Place::Split.backend()));
    let _awake = Place::Split.spinners()?;
    for (name, depth, place) in ROWS.into_iter().filter(|(name, ..)| arguments.wants(name)) {
        let load = Load { pattern: Pattern::RandomRead, block: 4096, depth, size: SIZE };
        let run = Run { place, queues: 1, load, time: arguments.time() };
        let file = text(image.path());
        let peer =
            |engine| -> Turn<'_> { Box::new(move || fio(file, engine, depth, arguments.seconds)) };
        let ours = |own| -> Turn<'_> {
            Box::new(move || {
                let done = run.measure(own)?;
                Ok(Figure { value: done.rate, cpu: Some(done.cpu) })
            })
        };
        let turns = &mut [peer("psync"), ours(&threads), peer("libaio"), ours(&native)];
        let figures = take_turns(arguments.rounds, turns)?;
        let line = |peer| Line { what: name, peer, unit: Unit::Requests, wanted: 0.95 };
        line("fio, psync").print(&figures[0], &figures[1]);
        line("fio, libaio").print(&figures[2], &figures[3]);
    }
    Ok(())
}

fn fio(image: &str, engine: &str, depth: u16, seconds: f64) -> Result<Figure> {
    let mut command = Command::new("taskset");
    command.args(["-c", "0", "fio", "--name=peer", "--direct=1", "--rw=randread", "--bs=4k"]);
    command.args(["--time_based", "--thread", "--group_reporting", "--output-format=json"]);
    command.arg(format!("--filename={image}")).arg(format!("--ioengine={engine}"));
    command.arg(format!("--runtime={seconds}s"));
    command.arg(match engine {
        "psync" => format!("--numjobs={depth}"),
        _ => format!("--iodepth={depth}"),
    });
    rate(&output(&mut command)?)
}

/// Reads a second, from fio's report. An engine may have said something in front of it.
pub fn rate(report: &str) -> Result<Figure> {
    let report = report.find('{').and_then(|start| report.get(start..)).unwrap_or_default();
    let report: serde_json::Value = serde_json::from_str(report).context("fio's report")?;
    let value = report["jobs"][0]["read"]["iops"].as_f64().context("fio's report has no IOPS")?;
    Ok(Figure { value, cpu: None })
}
