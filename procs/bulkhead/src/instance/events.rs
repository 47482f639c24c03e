//! `bulkhead events`: one JSON line per event until the instance ends.

use std::io::Write;
use std::process::ExitCode;

use bulkhead_protocol::control::{Request, Response};

use super::Client;
use crate::cli::Target;

/// Follows the events of an instance.
pub fn follow(target: &Target) -> anyhow::Result<ExitCode> {
    let client = Client::connect(&target.name)?;
    client.order(&Request::Events)?;
    let mut out = std::io::stdout().lock();
    while let Some(response) = client.next()? {
        if let Response::Event(event) = response {
            serde_json::to_writer(&mut out, &event)?;
            out.write_all(b"\n")?;
            out.flush()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
