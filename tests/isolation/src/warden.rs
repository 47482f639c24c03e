//! A stand-in for the supervisor: starts the launcher, has it start probes, and reaps them.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bulkhead_channel::Channel;
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::launch::{CgroupFolder, LauncherCommand, LauncherEvent, Layer, LayerState};
use bulkhead_protocol::start::{FromHelper, SealReport, ToHelper};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::identity::is_root;
use bulkhead_sys::pidfd::{Death, PidFd};
use bulkhead_sys::spawn::spawn;

use crate::attempt::{Order, Told};
use crate::binaries;

/// Nothing here takes this long; a wait that does is a failure, not a slow machine.
const LONG: Duration = Duration::from_secs(30);

/// Who starts the launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// As the tests themselves.
    Same,
    /// An ordinary user: uid and gid 65534.
    Nobody,
}

impl User {
    /// Those as whom these tests can start something.
    pub fn all() -> &'static [Self] {
        if is_root() { &[Self::Same, Self::Nobody] } else { &[Self::Same] }
    }
}

/// A launcher and its channel.
#[derive(Debug)]
pub struct Warden {
    launcher: Child,
    channel: Channel,
    tickets: u64,
}

/// A start that was not answered yet.
struct Asked {
    ticket: u64,
    channel: Channel,
    log: File,
}

impl Asked {
    fn answered(self, event: LauncherEvent, fds: Vec<OwnedFd>) -> Result<Inmate, LauncherEvent> {
        let mut pidfds = fds.into_iter().map(PidFd::from_fd);
        let LauncherEvent::Started { ticket, pid, uid, layers } = event else {
            for pidfd in pidfds {
                reap(&pidfd);
            }
            return Err(event);
        };
        let pidfd = pidfds.next().expect("its pidfd");
        let Self { channel, log, .. } = self;
        Ok(Inmate { ticket, pid, uid, layers, pidfd, channel, log })
    }
}

/// A process in its jail.
#[derive(Debug)]
pub struct Inmate {
    /// Ticket it was started with.
    pub ticket: u64,
    /// Its pid here.
    pub pid: i32,
    /// Its uid here.
    pub uid: u32,
    /// What became of each layer.
    pub layers: Vec<(Layer, LayerState)>,
    pidfd: PidFd,
    channel: Channel,
    log: File,
}

impl Warden {
    /// Starts a launcher that may start `program` under each class.
    pub fn new(
        user: User,
        program: &Path,
        weaker: &[Layer],
        cgroups: Vec<(CgroupFolder, OwnedFd)>,
    ) -> Self {
        let command = Command::new(binaries::program("bulkhead-launcher"));
        Self::with_command(command, user, program, weaker, cgroups)
    }

    /// As [`Warden::new`], by a command of the caller's that becomes the launcher.
    pub fn with_command(
        mut command: Command,
        user: User,
        program: &Path,
        weaker: &[Layer],
        cgroups: Vec<(CgroupFolder, OwnedFd)>,
    ) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if user == User::Nobody {
            command.uid(65534).gid(65534);
        }
        let (channel, theirs) = Channel::pair().expect("a channel");
        let launcher = spawn(&mut command, &[(theirs.as_fd(), 3)]).expect("the launcher starts");
        let mut warden = Self { launcher, channel, tickets: 0 };
        let binary = File::open(program).expect("the probe is there");
        let (folders, fds): (Vec<_>, Vec<_>) = cgroups.into_iter().unzip();
        let plan = LauncherCommand::Plan {
            binaries: ProcessClass::ALL.to_vec(),
            cgroups: folders,
            weaker: weaker.to_vec(),
        };
        let mut all: Vec<BorrowedFd<'_>> =
            ProcessClass::ALL.iter().map(|_| binary.as_fd()).collect();
        all.extend(fds.iter().map(OwnedFd::as_fd));
        warden.channel.send(&plan, &all).expect("the launcher listens");
        let (event, _) = warden.next_event();
        assert_eq!(event, LauncherEvent::Ready);
        warden
    }

    /// Pid of the launcher.
    pub fn launcher_pid(&self) -> i32 {
        self.launcher.id() as i32
    }

    fn next_event(&mut self) -> (LauncherEvent, Vec<OwnedFd>) {
        match self.channel.receive_by(Deadline::after(LONG)) {
            Ok(event) => event,
            Err(error) => panic!("launcher: {error}; {:?}", self.launcher.try_wait()),
        }
    }

    /// Starts a process; `Err` is what the launcher said of its failure.
    pub fn start(
        &mut self,
        class: ProcessClass,
        arguments: &[&str],
    ) -> Result<Inmate, LauncherEvent> {
        let asked = self.ask(class, arguments);
        self.take(vec![asked]).remove(0)
    }

    /// Starts several processes at once.
    pub fn start_all(&mut self, classes: &[ProcessClass]) -> Vec<Result<Inmate, LauncherEvent>> {
        let asked = classes.iter().map(|class| self.ask(*class, &[])).collect();
        self.take(asked)
    }

    fn ask(&mut self, class: ProcessClass, arguments: &[&str]) -> Asked {
        self.tickets += 1;
        let ticket = self.tickets;
        let (channel, theirs) = Channel::pair().expect("a channel");
        let (log, their_log) = std::io::pipe().expect("a pipe");
        let command = LauncherCommand::Start {
            ticket,
            class,
            id: "x0".into(),
            ordinal: ticket as u32,
            arguments: arguments.iter().map(|&text| text.into()).collect(),
            cpus: Vec::new(),
        };
        self.channel.send(&command, &[theirs.as_fd(), their_log.as_fd()]).expect("it listens");
        Asked { ticket, channel, log: File::from(OwnedFd::from(log)) }
    }

    /// Waits for the answers to all that was asked, in whatever order they come.
    fn take(&mut self, mut asked: Vec<Asked>) -> Vec<Result<Inmate, LauncherEvent>> {
        let mut taken = Vec::new();
        while !asked.is_empty() {
            let (event, fds) = self.next_event();
            let ticket = match &event {
                LauncherEvent::Started { ticket, .. } | LauncherEvent::Failed { ticket, .. } => {
                    *ticket
                }
                LauncherEvent::Ready => panic!("it was ready before"),
            };
            let place =
                asked.iter().position(|asked| asked.ticket == ticket).expect("it was asked");
            taken.push(asked.remove(place).answered(event, fds));
        }
        taken
    }

    /// Forgets a process that was reaped.
    pub fn forget(&mut self, ticket: u64) {
        self.channel.send(&LauncherCommand::Forget { ticket }, &[]).expect("it listens");
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        let _ = self.channel.send(&LauncherCommand::Stop, &[]);
        let _ = self.launcher.wait();
    }
}

impl Inmate {
    /// Waits until it has sealed itself.
    pub fn sealed(&mut self) -> SealReport {
        match self.channel.receive_by::<FromHelper<Told>>(Deadline::after(LONG)) {
            Ok((FromHelper::Sealed(report), _)) => report,
            other => panic!("no seal but {other:?}; {:?}: {}", self.end(), self.last_words()),
        }
    }

    /// Gives an order and waits for what comes of it.
    pub fn order(&mut self, order: Order, fds: &[BorrowedFd<'_>]) -> Ending {
        let sent = self.channel.send(&ToHelper::Role(order), fds);
        sent.expect("the probe listens");
        match self.channel.receive_by::<FromHelper<Told>>(Deadline::after(LONG)) {
            Ok((FromHelper::Role(told), _)) => Ending::Told(told),
            _ => Ending::Died(self.end()),
        }
    }

    /// Asks it to stop, and reaps it.
    pub fn stop(&mut self) -> Death {
        let _ = self.channel.send(&ToHelper::<Order>::Stop, &[]);
        self.end()
    }

    /// Waits for its end, and reaps it.
    pub fn end(&mut self) -> Death {
        reap(&self.pidfd)
    }

    /// Its pidfd.
    pub fn pidfd(&self) -> &PidFd {
        &self.pidfd
    }

    /// What it left on its log pipe. To be called after its end.
    pub fn last_words(&mut self) -> String {
        let mut text = String::new();
        let _ = self.log.read_to_string(&mut text);
        text
    }
}

impl Drop for Inmate {
    fn drop(&mut self) {
        let _ = self.pidfd.kill();
        if self.pidfd.reap().is_ok() {
            let _ = self.pidfd.wait_dead(Deadline::after(LONG));
            let _ = self.pidfd.reap();
        }
    }
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The probe lived on.
    Told(Told),
    /// It did not.
    Died(Death),
}

fn reap(pidfd: &PidFd) -> Death {
    pidfd.wait_dead(Deadline::after(LONG)).expect("it ends");
    pidfd.reap().expect("it is a child").expect("it is dead")
}
