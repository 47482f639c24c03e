//! The launcher, which starts block-tools in the jail that every helper has.
//!
//! It is the one of the supervisor: a child whose ids are mapped and whose root is empty can only be made by
//! a process that has one thread and nothing else to do.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bulkhead_channel::{Channel, ChannelError};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::launch::{LauncherCommand, LauncherEvent, Layer};
use bulkhead_protocol::start::CHANNEL_FD;
use bulkhead_supervisor::attest::{Expected, Fault, Given, Proc};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::pidfd::PidFd;
use bulkhead_sys::spawn::spawn;
use nix::fcntl::OFlag;

use super::process::{Log, Process};

/// Nothing here takes this long, unless a process is gone or the host swaps.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub struct Launcher {
    process: Child,
    channel: Channel,
    log: Log,
    weaker: Vec<Layer>,
    proc: Proc,
    tickets: u64,
}

impl Launcher {
    /// Starts it, and has it told what it may start.
    pub fn start(weaker: &[String]) -> Result<Self> {
        let weaker: Vec<Layer> = weaker.iter().map(|name| layer(name)).collect::<Result<_>>()?;
        let folder = folder()?;
        let binary = folder.join(ProcessClass::BlockTool.binary());
        let tool = File::open(&binary).with_context(|| binary.display().to_string())?;
        let (channel, theirs) = Channel::pair()?;
        let (log, pipe) = Log::pipe()?;
        let null = File::options().read(true).write(true).open("/dev/null").context("/dev/null")?;
        let mut command = Command::new(folder.join(ProcessClass::Launcher.binary()));
        command.arg0(ProcessClass::Launcher.name()).env_clear();
        command.stdin(null.try_clone()?).stdout(null).stderr(pipe);
        let process = spawn(&mut command, &[(theirs.as_fd(), CHANNEL_FD)]);
        let process = process.context("the launcher cannot be started")?;
        let plan = LauncherCommand::Plan {
            binaries: vec![ProcessClass::BlockTool],
            cgroups: Vec::new(),
            weaker: weaker.clone(),
        };
        channel.send(&plan, &[tool.as_fd()])?;
        let proc = Proc::open().context("/proc")?;
        Ok(Self { process, channel, log, weaker, proc, tickets: 0 })
    }

    /// A block-tool of so many threads that compress, sealed and looked at from outside.
    pub fn tool(&mut self, threads: usize) -> Result<Process> {
        let (channel, theirs) = Channel::pair()?;
        let (log, pipe) = Log::pipe()?;
        let given = Given { channel: inode(&theirs)?, log: inode(&pipe)? };
        self.tickets += 1;
        let order = LauncherCommand::Start {
            ticket: self.tickets,
            class: ProcessClass::BlockTool,
            id: "img".to_owned(),
            ordinal: 0,
            arguments: vec![threads.to_string()],
            cpus: Vec::new(),
        };
        let sent = self.channel.send(&order, &[theirs.as_fd(), pipe.as_fd()]);
        sent.map_err(|error| self.broken(&error))?;
        drop((theirs, pipe));
        let (pid, pidfd, layers) = self.started()?;
        let mut process = Process { channel, pidfd, log };
        let report = process.sealed()?;
        let class = ProcessClass::BlockTool;
        let expected = Expected { class, given, layers: &layers, weaker: &self.weaker };
        match self.proc.attest(pid, &report, &expected) {
            Ok(()) => Ok(process),
            Err(Fault::Missing { layer, why }) => Err(missing(layer, &why)),
            Err(fault) => Err(anyhow!("the block-tool is not sealed as it must be: {fault}")),
        }
    }

    fn started(&mut self) -> Result<Started> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let answer = self.channel.receive_by::<LauncherEvent>(deadline);
            let (event, fds) = answer.map_err(|error| self.broken(&error))?;
            let mut pidfds = fds.into_iter().map(PidFd::from_fd);
            match event {
                LauncherEvent::Ready => {}
                LauncherEvent::Started { pid, layers, .. } => {
                    let pidfd = pidfds.next().context("a process without a descriptor")?;
                    return Ok((pid, pidfd, layers));
                }
                LauncherEvent::Failed { layer: Some(layer), reason, .. } => {
                    return Err(missing(layer, &reason));
                }
                LauncherEvent::Failed { reason, .. } => {
                    bail!("the block-tool cannot be started: {reason}")
                }
            }
        }
    }

    /// The launcher does not answer.
    fn broken(&mut self, error: &ChannelError) -> anyhow::Error {
        let _ = self.process.kill();
        let _ = self.process.wait();
        match self.log.last_words() {
            words if words.is_empty() => anyhow!("the launcher: {error}"),
            words => anyhow!("the launcher died: {words}"),
        }
    }
}

/// Pid, process, and the layers of its jail.
type Started = (i32, PidFd, Vec<(Layer, bulkhead_protocol::launch::LayerState)>);

/// Where the launcher and the block-layer's executable are: beside this command, or in
/// `../libexec/bulkhead`.
fn folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the command cannot find its own executable")?;
    let beside = own.parent().unwrap_or(Path::new("/"));
    let needed = [ProcessClass::Launcher.binary(), ProcessClass::BlockTool.binary()];
    let whole = |folder: &PathBuf| needed.iter().all(|name| folder.join(name).is_file());
    let folders = [beside.to_owned(), beside.join("../libexec/bulkhead")];
    let [launcher, tool] = &needed;
    folders.into_iter().find(whole).with_context(|| {
        format!(
            "{launcher} and {tool}, which do the work, are neither in {folder} nor in \
             {folder}/../libexec/bulkhead; install all of Bulkhead in one place",
            folder = beside.display()
        )
    })
}

fn layer(name: &str) -> Result<Layer> {
    Layer::from_name(name).with_context(|| {
        let names = Layer::ALL.map(Layer::name).join(", ");
        format!("--allow-weaker-sandbox={name}: it is none of {names}")
    })
}

fn missing(layer: Layer, why: &str) -> anyhow::Error {
    let name = layer.name();
    anyhow!(
        "this host cannot seal the process that reads images: {name}: {why}; \
         use a host that can, or --allow-weaker-sandbox={name}"
    )
}

fn inode(fd: impl AsFd) -> io::Result<u64> {
    Ok(nix::sys::stat::fstat(fd)?.st_ino)
}

impl Log {
    /// A pipe, and its writing end for a process.
    pub fn pipe() -> io::Result<(Self, OwnedFd)> {
        let (pipe, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok((Self(pipe), theirs))
    }
}
