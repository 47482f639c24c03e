//! How a refusal is told: one line on stderr that names the option, its value and the remedy.

use std::process::ExitCode;

use bulkhead_protocol::session::Refusal;
use clap::error::ErrorKind;

/// Exit code of a refusal.
pub const REFUSED: u8 = 2;

/// A refusal as an error, so that it travels by `?`.
#[derive(Debug)]
pub struct Refused(pub Refusal);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Refused {}

/// A refusal of `value` for `option`.
pub fn refuse(option: &str, value: &str, reason: impl Into<String>, remedy: &str) -> anyhow::Error {
    anyhow::Error::new(Refused(Refusal {
        option: option.to_owned(),
        value: value.to_owned(),
        reason: reason.into(),
        remedy: remedy.to_owned(),
    }))
}

/// Prints an error; exit code 2 if it is a refusal, 1 otherwise.
pub fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("bulkhead: {error:#}");
    match error.downcast_ref::<Refused>() {
        Some(_) => ExitCode::from(REFUSED),
        None => ExitCode::FAILURE,
    }
}

/// Prints what clap found, on one line; help and version go to stdout as they are.
pub fn report_usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let parts: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:"))
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .collect();
    let line = parts.join("; ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    eprintln!("bulkhead: {line}; see 'bulkhead --help'");
    ExitCode::from(REFUSED)
}
