//! The launcher as the supervisor sees it: the one process that it starts itself.
//!
//! Started before the supervisor seals, since nothing can be executed afterwards. Its death ends the
//! instance: nobody else could start a successor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bulkhead_channel::{Channel, ChannelError};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::launch::{LauncherCommand, LauncherEvent};
use bulkhead_protocol::start::CHANNEL_FD;
use bulkhead_sys::pidfd::PidFd;
use nix::fcntl::OFlag;

use super::link::Link;
use super::log::{Heard, Log};
use super::{Due, Instance, Part, Token};
use crate::plan::Plan;

/// After too many lines, its log rests for this long.
pub const LOG_REST: Duration = Duration::from_secs(1);

/// The launcher.
#[derive(Debug)]
pub struct Launcher {
    /// Its channel.
    pub link: Link,
    /// Its log.
    pub log: Log,
    /// Itself.
    pub pidfd: PidFd,
    /// Its pid.
    pub pid: i32,
}

impl Launcher {
    /// Starts it and sends it its plan. To be called while this process may still execute.
    pub fn start(plan: &Plan) -> anyhow::Result<Self> {
        let (ours, theirs) = Channel::pair()?;
        let (log, pipe) = Log::pipe(Instant::now())?;
        let binary = format!("/proc/self/fd/{}", plan.binaries.launcher().as_raw_fd());
        let null = crate::open::find(Path::new("/dev/null"))?.open(OFlag::O_RDWR)?;
        let mut command = Command::new(binary);
        std::os::unix::process::CommandExt::arg0(&mut command, ProcessClass::Launcher.name());
        command.env_clear().stdin(null.try_clone()?).stdout(null).stderr(pipe);
        let child = bulkhead_sys::spawn::spawn(&mut command, &[(theirs.as_fd(), CHANNEL_FD)])?;
        let pid = child.id() as i32;
        let mut launcher = Self { link: Link::new(ours), log, pidfd: PidFd::open(pid)?, pid };
        launcher.send_plan(plan)?;
        Ok(launcher)
    }

    fn send_plan(&mut self, plan: &Plan) -> Result<(), ChannelError> {
        let command = LauncherCommand::Plan {
            binaries: plan.binaries.helpers().map(|(class, _)| class).collect(),
            cgroups: plan.cgroups.iter().map(|folder| folder.plan.clone()).collect(),
            weaker: plan.weaker.clone(),
        };
        let binaries = plan.binaries.helpers().map(|(_, fd)| fd);
        let folders = plan.cgroups.iter().map(AsFd::as_fd);
        let fds: Vec<BorrowedFd<'_>> = binaries.chain(folders).collect();
        self.link.send(command, &fds)
    }
}

impl Instance {
    /// News from the launcher, or room for what waits.
    pub(super) fn on_launcher(&mut self, writable: bool) {
        if writable && self.launcher.link.flush().is_err() {
            return self.fail("the launcher closed its channel".into());
        }
        loop {
            let event = match self.launcher.link.receive::<LauncherEvent>() {
                Ok(Some(event)) => event,
                Ok(None) => return self.watch_launcher(),
                // Its pidfd says how it died.
                Err(ChannelError::Closed) => {
                    let _ = self.poller.remove(&self.launcher.link);
                    return;
                }
                Err(error) => {
                    return self.fail(format!("the launcher cannot be understood: {error}"));
                }
            };
            self.on_launcher_event(event.0, event.1);
        }
    }

    /// Listens for room only while something waits.
    pub(super) fn watch_launcher(&self) {
        let token = Token::Launcher(Part::Channel).encode();
        let _ =
            self.poller.modify(&self.launcher.link, token, super::interest(&self.launcher.link));
    }

    /// Lines of the launcher.
    pub(super) fn on_launcher_log(&mut self) {
        let (lines, rest) = match self.launcher.log.read(Instant::now()) {
            Heard::Lines(lines) => (lines, false),
            Heard::TooMuch(lines) => (lines, true),
            Heard::Closed => (Vec::new(), true),
        };
        for line in lines {
            self.tell_line(ProcessClass::Launcher, "", line);
        }
        if rest {
            let _ = self.poller.remove(&self.launcher.log);
            self.timers.set(Instant::now() + LOG_REST, Due::LauncherLog);
        }
    }

    /// The launcher's log has rested.
    pub(super) fn launcher_log_again(&mut self) {
        let _: io::Result<()> = self.watch(&self.launcher.log, Token::Launcher(Part::Log));
    }

    /// The launcher is dead.
    pub(super) fn on_launcher_death(&mut self) {
        let how = match self.launcher.pidfd.reap() {
            Ok(None) => return,
            Ok(Some(death)) => death.to_string(),
            Err(error) => error.to_string(),
        };
        let _ = self.poller.remove(&self.launcher.pidfd);
        let words = self.launcher.log.last_words();
        let separator = if words.is_empty() { "" } else { ": " };
        self.fail(format!("the launcher died ({how}){separator}{words}"));
    }
}
