//! The `bulkhead-img` command: makes, looks at, checks, converts, compares and resizes disk images, with
//! the options and the output of `qemu-img` where they are the same thing.
//!
//! Two processes: this one has the user's rights, opens and locks the files that the user named, prints, and
//! has no parser of any image; a block-tool ([`tool`]), sealed like the block layer of a virtual machine,
//! gets the open files and does the work.
//!
//! Absent on purpose: guessing of formats, and following the names in headers unless the user asks for a
//! chain. A backing file is given with `--backing FORMAT:PATH`, the nearest first.
#![forbid(unsafe_code)]

mod amend;
mod bench;
mod bitmap;
mod chain;
mod check;
mod cli;
mod commit;
mod compare;
mod convert;
mod create;
mod dd;
mod disk;
mod file;
mod info;
mod map;
mod measure;
mod option;
mod out;
mod progress;
mod rebase;
mod resize;
mod server;
mod signals;
mod size;
mod snapshot;
mod target;
mod time;
mod tool;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use cli::{Arguments, Command};
use signals::{Interrupted, Signals};
use tool::Front;

/// Exit code of a command line that cannot be.
const REFUSED: u8 = 2;

/// Exit code of a command that a signal ended, as shells count: this and the signal's number.
const SIGNALLED: u8 = 128;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let refused = error.use_stderr();
            let _ = error.print();
            return if refused { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS };
        }
    };
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(error) => report(&error, &arguments.command),
    }
}

fn report(error: &anyhow::Error, command: &Command) -> ExitCode {
    // Whoever read the output wants no more of it.
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    if !error.downcast_ref().is_some_and(broken) {
        eprintln!("bulkhead-img: {error:#}");
    }
    match interrupted(error) {
        Some(Interrupted(signal)) => ExitCode::from(SIGNALLED + *signal as u8),
        None if matches!(command, Command::Compare(_)) => ExitCode::from(compare::FAILED),
        None => ExitCode::FAILURE,
    }
}

/// Whether a signal was in the way, also of a line that nobody read.
fn interrupted(error: &anyhow::Error) -> Option<&Interrupted> {
    let within = || error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref();
    error.downcast_ref().or_else(within)
}

fn dispatch(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Command::Completions(options) = &arguments.command {
        cli::completions(options);
        return Ok(ExitCode::SUCCESS);
    }
    server::use_tls(arguments.tls_creds.as_ref(), arguments.tls_hostname.as_ref())?;
    let signals = out::obey(Signals::take()?);
    let front = &mut Front::start(&arguments.weaker, signals)?;
    match &arguments.command {
        Command::Create(options) => create::run(options, front),
        Command::Info(options) => info::run(options, front),
        Command::Check(options) => check::run(options, front),
        Command::Map(options) => map::run(options, front),
        Command::Convert(options) => convert::run(options, front),
        Command::Compare(options) => compare::run(options, front),
        Command::Resize(options) => resize::run(options, front),
        Command::Measure(options) => measure::run(options, front),
        Command::Rebase(options) => rebase::run(options, front),
        Command::Commit(options) => commit::run(options, front),
        Command::Amend(options) => amend::run(options, front),
        Command::Dd(options) => dd::run(options, front),
        Command::Bench(options) => bench::run(options, front),
        Command::Bitmap(options) => bitmap::run(options, front),
        Command::Snapshot(options) => snapshot::run(options, front),
        Command::Completions(_) => Ok(ExitCode::SUCCESS),
    }
}
