//! The command's first message, taken apart.

use std::os::fd::OwnedFd;

use anyhow::{Context, bail};
use bulkhead_protocol::session::SessionCommand;
use bulkhead_protocol::spec::Spec;

use crate::live::Terms;
use crate::plan::Roots;

/// What the command wants.
#[derive(Debug)]
pub struct Order {
    /// The spec.
    pub spec: Spec,
    /// Only the plan is wanted.
    pub dry_run: bool,
    /// Roots below which is opened.
    pub roots: Roots,
    /// Under which terms the instance lives.
    pub terms: Terms,
}

impl Order {
    /// Joins the message with its descriptors, whose number the channel has checked.
    pub fn new(command: SessionCommand, fds: Vec<OwnedFd>) -> anyhow::Result<Self> {
        let SessionCommand::Start { spec, dry_run, detach, serial, console, trace, size } = command
        else {
            bail!("the command's first message is no start");
        };
        let mut fds = fds.into_iter();
        let mut next = || fds.next().context("a descriptor is missing");
        Ok(Self {
            spec: *spec,
            dry_run,
            roots: Roots { binaries: next()?, runtime: next()? },
            terms: Terms {
                detach,
                serial: serial.then(&mut next).transpose()?,
                console: console.then(&mut next).transpose()?,
                trace: trace.then(&mut next).transpose()?,
                size: size.unwrap_or((0, 0)),
            },
        })
    }
}
