//! `bulkhead block export …`: exports that come and go while their disk is served.

use std::process::ExitCode;

use anyhow::bail;
use bulkhead_protocol::block_control::{BlockRequest, BlockResponse, ExportState};
use bulkhead_protocol::spec::{Address, ExportSpec, NbdSpec};

use super::cli::{ExportCommand, Listing};
use super::{ask, files, order};
use crate::options::export::{Export, parse};

/// Runs a subcommand.
pub fn run(command: ExportCommand) -> anyhow::Result<ExitCode> {
    match command {
        ExportCommand::Add { name, export } => add(&name, &export),
        ExportCommand::Remove { name, export, force } => {
            order(&name, BlockRequest::RemoveExport { export, force })
        }
        ExportCommand::List(listing) => list(&listing),
    }
}

fn add(name: &str, text: &str) -> anyhow::Result<ExitCode> {
    // The supervisor has another working directory.
    let request = match parse(text)? {
        Export::Nbd(spec) => BlockRequest::AddExport(absolute(spec)?),
        Export::VhostUser(spec) => {
            let socket = files::absolute(&spec.socket)?;
            BlockRequest::AddVhostUserExport(ExportSpec { socket, ..spec })
        }
    };
    match ask(name, request)? {
        BlockResponse::Added(export) => println!("{export}"),
        _ => bail!("{name}: its control process cannot be understood"),
    }
    Ok(ExitCode::SUCCESS)
}

fn absolute(mut spec: NbdSpec) -> anyhow::Result<NbdSpec> {
    if let Address::Path(socket) = &mut spec.listen {
        *socket = files::absolute(&*socket)?;
    }
    if let Some(tls) = &mut spec.tls {
        tls.folder = files::absolute(&tls.folder)?;
    }
    Ok(spec)
}

fn list(listing: &Listing) -> anyhow::Result<ExitCode> {
    let BlockResponse::Exports(exports) = ask(&listing.name, BlockRequest::Exports)? else {
        bail!("{}: its control process cannot be understood", listing.name);
    };
    if listing.json {
        println!("{}", serde_json::to_string_pretty(&exports)?);
    } else {
        exports.iter().for_each(|export| println!("{}", line(export)));
    }
    Ok(ExitCode::SUCCESS)
}

fn line(export: &ExportState) -> String {
    let ExportState { export, kind, disk, address, read_only, serving } = export;
    let access = if *read_only { ", read-only" } else { "" };
    let state = if *serving { "" } else { ", its process is being replaced" };
    format!("{export:<16} {kind} of disk {disk} at {address}{access}{state}")
}
