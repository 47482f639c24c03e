//! The `bulkhead-img` command: makes, looks at, checks, converts, compares and resizes disk images, with
//! the options and the output of `qemu-img` where they are the same thing.
//!
//! It is the block layer's library in one process, without a guest, a ring or a thread. Every file is
//! opened first ([`disk`]), as the user named it; then the process gives up opening files at all
//! ([`seal`]), and only then is anything in an image believed.
//!
//! Why not in the sealed block-layer process: its clients speak through rings, which are for disks that
//! live; asking for a check or a map there needs a channel of its own, which the block jobs will bring.
//!
//! Absent on purpose: guessing of formats, and following the names in headers. A backing file is given
//! with `--backing FORMAT:PATH`, the nearest first.
#![forbid(unsafe_code)]

mod amend;
mod bench;
mod bitmap;
mod check;
mod cli;
mod commit;
mod compare;
mod convert;
mod create;
mod dd;
mod disk;
mod info;
mod map;
mod measure;
mod pack;
mod progress;
mod rebase;
mod resize;
mod seal;
mod size;
mod snapshot;

use std::process::ExitCode;

use clap::Parser;

/// Exit code of a command line that cannot be.
const REFUSED: u8 = 2;

fn main() -> ExitCode {
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let refused = error.use_stderr();
            let _ = error.print();
            return if refused { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS };
        }
    };
    match dispatch(&arguments.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bulkhead-img: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: &cli::Command) -> anyhow::Result<ExitCode> {
    use cli::Command;
    match command {
        Command::Create(options) => create::run(options),
        Command::Info(options) => info::run(options),
        Command::Check(options) => check::run(options),
        Command::Map(options) => map::run(options),
        Command::Convert(options) => convert::run(options),
        Command::Compare(options) => compare::run(options),
        Command::Resize(options) => resize::run(options),
        Command::Measure(options) => measure::run(options),
        Command::Rebase(options) => rebase::run(options),
        Command::Commit(options) => commit::run(options),
        Command::Amend(options) => amend::run(options),
        Command::Dd(options) => dd::run(options),
        Command::Bench(options) => bench::run(options),
        Command::Bitmap(options) => bitmap::run(options),
        Command::Snapshot(options) => snapshot::run(options),
    }
}
