//! The subcommands that ask one thing of one instance.

use std::process::ExitCode;

use bulkhead_protocol::control::Request;

use super::Client;
use crate::cli::{ShutdownOptions, Target};
use crate::options;

/// `bulkhead pause`
pub fn pause(target: &Target) -> anyhow::Result<ExitCode> {
    order(&target.name, &Request::Pause)
}

/// `bulkhead resume`
pub fn resume(target: &Target) -> anyhow::Result<ExitCode> {
    order(&target.name, &Request::Resume)
}

/// `bulkhead reset`
pub fn reset(target: &Target) -> anyhow::Result<ExitCode> {
    order(&target.name, &Request::Reset)
}

/// `bulkhead kill`: returns when the instance is gone.
pub fn kill(target: &Target) -> anyhow::Result<ExitCode> {
    let client = Client::connect(&target.name)?;
    client.order(&Request::Kill)?;
    while client.next()?.is_some() {}
    Ok(ExitCode::SUCCESS)
}

/// `bulkhead shutdown`: returns when the instance is gone.
pub fn shutdown(options: &ShutdownOptions) -> anyhow::Result<ExitCode> {
    let timeout = options::seconds("--timeout", &options.timeout)?;
    let timeout_ms = u64::try_from(timeout.as_millis())?;
    let client = Client::connect(&options.name)?;
    client.order(&Request::Shutdown { timeout_ms })?;
    while client.next()?.is_some() {}
    Ok(ExitCode::SUCCESS)
}

fn order(name: &str, request: &Request) -> anyhow::Result<ExitCode> {
    Client::connect(name)?.order(request)?;
    Ok(ExitCode::SUCCESS)
}
