//! The launcher's loop: commands in, births on their way, answers out.
//!
//! A birth takes a millisecond or two, most of it in the child. The loop waits for no child: it
//! watches report pipes beside its channel.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, bail};
use bulkhead_channel::ChannelError;
use bulkhead_jail::{Birth, Cell, Failure, Layer, Orders, Progress, budget, own_uid};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::launch::{LauncherCommand, LauncherEvent};
use bulkhead_sys::birth::Standard;
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::poller::{Interest, Poller, Token};

use crate::answer;
use crate::plan::Plan;
use crate::tools::Tools;

/// The channel's token; a birth has its ticket's number, shifted past it.
const CHANNEL: Token = 0;

/// How long the supervisor may leave the channel full before it counts as gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a `Start` asks for.
struct Request {
    ticket: u64,
    class: ProcessClass,
    id: String,
    ordinal: u32,
    arguments: Vec<String>,
    cpus: Vec<usize>,
}

/// The launcher at work.
#[derive(Debug)]
pub struct Service {
    tools: Tools,
    poller: Poller,
    plan: Plan,
    /// By ticket.
    births: BTreeMap<u64, Birth>,
    /// Control groups of children that live or are not forgotten yet, by ticket.
    cells: BTreeMap<u64, Cell>,
}

/// Whether the loop goes on.
enum Next {
    Continue,
    End,
}

impl Service {
    /// To be made before the seal.
    pub fn new(tools: Tools) -> anyhow::Result<Self> {
        let poller = Poller::new()?;
        poller.add(&tools.channel, CHANNEL, Interest::Read)?;
        Ok(Self {
            tools,
            poller,
            plan: Plan::default(),
            births: BTreeMap::new(),
            cells: BTreeMap::new(),
        })
    }

    /// Serves until the supervisor says stop or is gone.
    pub fn run(mut self) -> anyhow::Result<()> {
        let mut events = Vec::new();
        loop {
            events.clear();
            self.poller.wait(None, &mut events)?;
            for event in &events {
                let next = match event.token {
                    CHANNEL => self.take_commands()?,
                    token => self.attend(token - 1)?,
                };
                if matches!(next, Next::End) {
                    return Ok(());
                }
            }
        }
    }

    fn take_commands(&mut self) -> anyhow::Result<Next> {
        loop {
            match self.tools.channel.try_receive::<LauncherCommand>() {
                Ok(None) => return Ok(Next::Continue),
                Ok(Some((command, fds))) => {
                    if let Next::End = self.obey(command, fds)? {
                        return Ok(Next::End);
                    }
                }
                Err(ChannelError::Closed) => return Ok(Next::End),
                Err(error) => bail!("the supervisor: {error}"),
            }
        }
    }

    fn obey(&mut self, command: LauncherCommand, fds: Vec<OwnedFd>) -> anyhow::Result<Next> {
        match command {
            LauncherCommand::Plan { binaries, cgroups, weaker } => {
                self.plan = Plan::new(binaries, cgroups, &weaker, fds);
                if !self.plan.weaker.contains(&Layer::UserNamespace) {
                    self.tools.keep_id_maps()?;
                }
                self.say(&LauncherEvent::Ready, &[])?;
            }
            LauncherCommand::Start { ticket, class, id, ordinal, arguments, cpus } => {
                let cpus = cpus.into_iter().map(|cpu| cpu as usize).collect();
                self.start(&Request { ticket, class, id, ordinal, arguments, cpus }, &fds)?;
            }
            LauncherCommand::Forget { ticket } => {
                if let Some(cell) = self.cells.remove(&ticket) {
                    cell.remove(&self.plan.hierarchies);
                }
            }
            LauncherCommand::Stop => return Ok(Next::End),
        }
        Ok(Next::Continue)
    }

    fn start(&mut self, request: &Request, fds: &[OwnedFd]) -> anyhow::Result<()> {
        let ticket = request.ticket;
        match self.begin(request, fds) {
            Ok(birth) => {
                self.poller.add(&birth, ticket + 1, Interest::Read)?;
                self.births.insert(ticket, birth);
                Ok(())
            }
            Err(Refusal::Unfit(reason)) => self.say(&answer::refused(ticket, reason), &[]),
            Err(Refusal::Failed(failure)) => self.fail(ticket, *failure),
        }
    }

    fn begin(&self, request: &Request, fds: &[OwnedFd]) -> Result<Birth, Refusal> {
        let class = request.class;
        let [channel, log] = fds else {
            return Err(Refusal::Unfit("a start has two descriptors".to_owned()));
        };
        let binary = self.plan.binaries.get(&class);
        let binary = binary.ok_or_else(|| Refusal::Unfit(format!("the plan has no {class}")))?;
        let budget = budget(class.name());
        let budget = budget.ok_or_else(|| Refusal::Unfit(format!("{class} has no budget")))?;
        let orders = Orders {
            budget,
            arguments: arguments(request).map_err(|error| Refusal::Unfit(error.to_string()))?,
            binary: binary.as_fd(),
            standard: Standard {
                null: self.tools.null.as_fd(),
                log: log.as_fd(),
                channel: channel.as_fd(),
            },
            cpus: &request.cpus,
            own_uid: own_uid(self.tools.pid, request.ordinal),
            name: &cell_name(request),
            weaker: &self.plan.weaker,
        };
        Ok(Birth::begin(&orders, &self.tools.maps, &self.plan.hierarchies)?)
    }

    /// Looks at the report pipe of a birth.
    fn attend(&mut self, ticket: u64) -> anyhow::Result<Next> {
        let Some(birth) = self.births.get_mut(&ticket) else {
            return Ok(Next::Continue);
        };
        if let Progress::OnItsWay = birth.progress() {
            return Ok(Next::Continue);
        }
        let birth = self.births.remove(&ticket).context("a birth that was there")?;
        self.poller.remove(&birth)?;
        match birth.finish() {
            Ok(outcome) => {
                let event = answer::started(ticket, &outcome);
                self.say(&event, &[outcome.born.pidfd.as_fd()])?;
                self.cells.insert(ticket, outcome.cell);
            }
            Err(failure) => self.fail(ticket, *failure)?,
        }
        Ok(Next::Continue)
    }

    fn fail(&mut self, ticket: u64, failure: Failure) -> anyhow::Result<()> {
        let event = answer::failed(ticket, &failure);
        let pidfd = failure.born.as_ref().map(|born| born.pidfd.as_fd());
        self.say(&event, &pidfd.into_iter().collect::<Vec<_>>())?;
        self.cells.insert(ticket, failure.cell);
        Ok(())
    }

    fn say(&self, event: &LauncherEvent, fds: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
        let sent = self.tools.channel.send_by(event, fds, Deadline::after(PATIENCE));
        sent.context("the supervisor")
    }
}

/// Why a birth did not begin.
enum Refusal {
    /// The command does not fit the plan.
    Unfit(String),
    /// The host refused.
    Failed(Box<Failure>),
}

impl From<Box<Failure>> for Refusal {
    fn from(failure: Box<Failure>) -> Self {
        Self::Failed(failure)
    }
}

fn arguments(request: &Request) -> Result<Vec<CString>, std::ffi::NulError> {
    let name = std::iter::once(request.class.name());
    name.chain(request.arguments.iter().map(String::as_str)).map(CString::new).collect()
}

/// Name of a child's control groups. A ticket is never used twice.
fn cell_name(request: &Request) -> String {
    let id = request.id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    format!("{}.{}.{}", request.class, id.collect::<String>(), request.ticket)
}
