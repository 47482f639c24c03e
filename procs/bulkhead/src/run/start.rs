//! Starting the supervisor and telling it what is wanted.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use bulkhead_channel::Channel;
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::session::SessionCommand;
use bulkhead_protocol::start::CHANNEL_FD;
use bulkhead_sys::clock::Deadline;

use super::{binaries, terminal};
use crate::options::RunPlan;
use crate::runtime_dir;

/// Room for the first message; the supervisor has only just begun.
const SEND_DEADLINE: Duration = Duration::from_secs(5);

/// A supervisor that was told its spec.
#[derive(Debug)]
pub struct Started {
    /// The session.
    pub channel: Channel,
    /// The process.
    pub child: Child,
}

/// The supervisor's ends of the guest's byte streams.
#[derive(Debug, Default)]
pub struct Streams {
    /// ttyS0.
    pub serial: Option<OwnedFd>,
    /// The virtio-console.
    pub console: Option<OwnedFd>,
    /// The trace.
    pub trace: Option<OwnedFd>,
}

/// Starts a supervisor for `plan`.
pub fn start(plan: &RunPlan, streams: &Streams) -> anyhow::Result<Started> {
    let directory = binaries::directory()?;
    let helpers =
        File::open(&directory).with_context(|| format!("cannot open {}", directory.display()))?;
    let runtime = runtime_dir::open()?;
    let (channel, theirs) = Channel::pair()?;
    let mut command = Command::new(directory.join(ProcessClass::Supervisor.binary()));
    let stderr = if plan.detach { Stdio::null() } else { Stdio::inherit() };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let child = bulkhead_sys::spawn::spawn(&mut command, &[(theirs.as_fd(), CHANNEL_FD)])
        .context("cannot start the supervisor")?;
    drop(theirs);
    let message = SessionCommand::Start {
        spec: Box::new(plan.spec.clone()),
        dry_run: plan.dry_run,
        detach: plan.detach,
        serial: streams.serial.is_some(),
        console: streams.console.is_some(),
        trace: streams.trace.is_some(),
        size: terminal::size(),
    };
    let mut fds: Vec<BorrowedFd<'_>> = vec![helpers.as_fd(), runtime.as_fd()];
    fds.extend(streams.serial.iter().map(AsFd::as_fd));
    fds.extend(streams.console.iter().map(AsFd::as_fd));
    fds.extend(streams.trace.iter().map(AsFd::as_fd));
    channel
        .send_by(&message, &fds, Deadline::after(SEND_DEADLINE))
        .context("the supervisor does not listen")?;
    Ok(Started { channel, child })
}
