//! The `bulkhead` command: what people type.
//!
//! It turns options into a spec, starts a supervisor and stays between it and the user's terminal;
//! the other subcommands ask running instances through their control sockets. It holds no guest
//! memory and opens no image: its only authority is the user's own.
//!
//! Exit codes: 0 as asked, 1 failed, 2 refused before anything started, 3 the guest crashed.
#![forbid(unsafe_code)]

mod block;
mod choice;
mod cli;
mod instance;
mod options;
mod policy;
mod refusal;
mod run;
mod runtime_dir;

use clap::Parser;

fn main() -> std::process::ExitCode {
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refusal::report_usage(&error),
    };
    match dispatch(arguments.command) {
        Ok(code) => code,
        Err(error) => refusal::report(&error),
    }
}

fn dispatch(command: cli::Command) -> anyhow::Result<std::process::ExitCode> {
    use cli::Command;
    match command {
        Command::Run(options) => run::vm(*options),
        Command::Storage(options) => run::storage(options),
        Command::Ps(options) => instance::ps::show(&options),
        Command::Pause(target) => instance::commands::pause(&target),
        Command::Resume(target) => instance::commands::resume(&target),
        Command::Shutdown(options) => instance::commands::shutdown(&options),
        Command::Reset(target) => instance::commands::reset(&target),
        Command::Kill(target) => instance::commands::kill(&target),
        Command::Console(target) => instance::console::attach(&target),
        Command::Events(target) => instance::events::follow(&target),
        Command::Block(options) => block::run(*options),
        Command::Policy(options) => policy::show(&options),
        Command::Audit(options) => policy::audit(&options),
        Command::Completions(options) => cli::completions(&options),
    }
}
