//! Direct I/O on a disk, beside fio, which nothing separates from the file: its figure is the ceiling.

use std::process::Command;

use anyhow::{Context, Result};

use super::command::{output, text};
use super::table::{Figure, Line, Turn, Unit, take_turns};
use crate::Arguments;
use crate::contender::{Contender, Disk, SIZE, image};
use crate::load::{Load, Pattern};
use crate::measure::Run;
use crate::place::Place;

const ROWS: [(&str, u16); 2] =
    [("raw, 4 KiB random read, 1, O_DIRECT", 1), ("raw, 4 KiB random read, 32, O_DIRECT", 32)];

/// Two lines for each row: fio with threads and with Linux AIO.
pub fn run(arguments: &Arguments) -> Result<()> {
    if !ROWS.iter().any(|(name, _)| arguments.wants(name)) {
        return Ok(());
    }
    let image = image(&arguments.disk)?;
    let own = Contender::ours(&Disk::raw(image.path(), true), 1, Place::Split.backend());
    let _awake = Place::Split.spinners()?;
    for (name, depth) in ROWS.into_iter().filter(|(name, _)| arguments.wants(name)) {
        let load = Load { pattern: Pattern::RandomRead, block: 4096, depth, size: SIZE };
        let run = Run { place: Place::Split, queues: 1, load, time: arguments.time() };
        let file = text(image.path());
        let peer =
            |engine| -> Turn<'_> { Box::new(move || fio(file, engine, depth, arguments.seconds)) };
        let ours: Turn<'_> = Box::new(|| {
            let done = run.measure(&own)?;
            Ok(Figure { value: done.rate, cpu: Some(done.cpu) })
        });
        let figures = take_turns(arguments.rounds, &mut [peer("psync"), peer("libaio"), ours])?;
        let line = |peer| Line { what: name, peer, unit: Unit::Requests, wanted: 0.95 };
        line("fio, psync").print(&figures[0], &figures[2]);
        line("fio, libaio").print(&figures[1], &figures[2]);
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
