//! `bulkhead console`: a detached VM's console on this terminal.

use std::process::ExitCode;

use anyhow::bail;
use bulkhead_protocol::control::{Request, Response};

use super::Client;
use crate::cli::Target;

/// Attaches until the escape key or the end of the VM.
pub fn attach(target: &Target) -> anyhow::Result<ExitCode> {
    let client = Client::connect(&target.name)?;
    match client.ask(&Request::Console)? {
        (Response::Console, mut fds) if fds.len() == 1 => {
            let Some(stream) = fds.pop() else { bail!("no stream came") };
            crate::run::join_terminal(stream)?;
            Ok(ExitCode::SUCCESS)
        }
        (Response::Refused(reason), _) => bail!("{reason}"),
        _ => bail!("the instance's control process cannot be understood"),
    }
}
