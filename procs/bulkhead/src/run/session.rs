//! The session: one loop over the supervisor's channel and the user's signals.

use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bulkhead_channel::{Channel, ChannelError};
use bulkhead_protocol::event::{EndReason, EventKind};
use bulkhead_protocol::session::{SessionCommand, SessionEvent};
use bulkhead_sys::poller::{Interest, Poller};
use bulkhead_sys::seqpacket::stream_pair;
use nix::sys::signal::Signal;

use super::outlet::{self, Drained};
use super::start::{Started, Streams, start};
use super::{lines, signals, terminal, trace};
use crate::options::{Console, RunPlan, Serial};
use crate::refusal::Refused;

const SESSION: u64 = 0;
const SIGNALS: u64 = 1;

/// How long the last output may take to reach its outlet after the end.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs `plan` to its end.
pub fn run(plan: RunPlan) -> anyhow::Result<ExitCode> {
    let signals = signals::take().context("cannot take signals")?;
    let (mut streams, serial, console) = streams(&plan)?;
    let traced = match &plan.trace {
        Some(file) if !plan.dry_run => Some(trace::begin(file)?),
        _ => None,
    };
    let (theirs, written) = traced.unzip();
    streams.trace = theirs;
    let Started { channel, mut child } = start(&plan, &streams)?;
    drop(streams);
    let mut session = Session {
        channel: Arc::new(channel),
        raw: None,
        asked_to_end: false,
        drained: written.into_iter().collect(),
        shutdown_timeout: plan.shutdown_timeout,
        detach: plan.detach,
        chosen: plan.chosen.clone(),
    };
    session.connect(&plan, serial, console)?;
    let outcome = session.serve(&signals);
    for drained in &session.drained {
        let _ = drained.recv_timeout(DRAIN);
    }
    drop(session.raw.take());
    if !matches!(outcome, Ok(Outcome::Detached)) {
        drop(session);
        let _ = child.wait();
    }
    match outcome? {
        Outcome::Done | Outcome::Detached => Ok(ExitCode::SUCCESS),
        Outcome::Ended(reason) => {
            if let EndReason::Failed(why) = &reason {
                eprintln!("bulkhead: {why}");
            }
            Ok(ExitCode::from(u8::try_from(reason.exit_code()).unwrap_or(1)))
        }
    }
}

type Ends = (Streams, Option<UnixStream>, Option<UnixStream>);

fn streams(plan: &RunPlan) -> anyhow::Result<Ends> {
    let pair = |wanted: bool| -> anyhow::Result<_> {
        if !wanted || plan.detach || plan.dry_run {
            return Ok((None, None));
        }
        let (theirs, ours) = stream_pair()?;
        Ok((Some(theirs), Some(UnixStream::from(ours))))
    };
    let (serial, our_serial) = pair(plan.serial != Serial::Off)?;
    let (console, our_console) = pair(plan.console != Console::Off)?;
    Ok((Streams { serial, console, trace: None }, our_serial, our_console))
}

/// What a session came to.
#[derive(Debug)]
enum Outcome {
    /// A dry run was printed.
    Done,
    /// It runs on without us.
    Detached,
    /// It has ended.
    Ended(EndReason),
}

#[derive(Debug)]
struct Session {
    channel: Arc<Channel>,
    raw: Option<terminal::RawMode>,
    asked_to_end: bool,
    drained: Vec<Drained>,
    shutdown_timeout: Option<Duration>,
    detach: bool,
    chosen: Option<String>,
}

impl Session {
    fn connect(
        &mut self,
        plan: &RunPlan,
        serial: Option<UnixStream>,
        console: Option<UnixStream>,
    ) -> anyhow::Result<()> {
        let on_stdio = match (&plan.serial, &plan.console) {
            (Serial::Stdio, _) => serial.as_ref(),
            (_, Console::Stdio) => console.as_ref(),
            _ => None,
        };
        if let Some(stream) = on_stdio {
            self.raw = terminal::RawMode::enter();
            if self.raw.is_some() {
                self.say("Ctrl-] q ends the VM, Ctrl-] p presses its power button");
            }
            let timeout = self.shutdown_timeout.unwrap_or_default();
            let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            let session = Arc::clone(&self.channel);
            outlet::feed_stdin(stream.try_clone()?, session, self.raw.is_some(), timeout);
        }
        if let Some(stream) = serial {
            self.drained.push(outlet::serial(&plan.serial, stream)?);
        }
        if let Some(stream) = console {
            self.drained.push(outlet::console(&plan.console, stream)?);
        }
        Ok(())
    }

    fn serve(&mut self, signals: &nix::sys::signalfd::SignalFd) -> anyhow::Result<Outcome> {
        let poller = Poller::new()?;
        poller.add(&*self.channel, SESSION, Interest::Read)?;
        poller.add(signals, SIGNALS, Interest::Read)?;
        let mut events = Vec::new();
        loop {
            events.clear();
            poller.wait(None, &mut events)?;
            while let Some(signal) = signals::next(signals) {
                self.obey(signal);
            }
            if let Some(outcome) = self.listen()? {
                return Ok(outcome);
            }
        }
    }

    fn obey(&mut self, signal: Signal) {
        let command = match (signal, self.shutdown_timeout) {
            (Signal::SIGWINCH, _) => match terminal::size() {
                Some((columns, rows)) => SessionCommand::Resize { columns, rows },
                None => return,
            },
            (Signal::SIGTERM | Signal::SIGHUP | Signal::SIGINT, Some(timeout))
                if !self.asked_to_end =>
            {
                self.asked_to_end = true;
                let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                SessionCommand::Shutdown { timeout_ms }
            }
            _ => SessionCommand::Kill,
        };
        let _ = self.channel.send(&command, &[]);
    }

    fn listen(&mut self) -> anyhow::Result<Option<Outcome>> {
        loop {
            let event = match self.channel.try_receive::<SessionEvent>() {
                Ok(None) => return Ok(None),
                Ok(Some((event, _))) => event,
                Err(ChannelError::Closed) => {
                    anyhow::bail!("the supervisor died; everything of the instance is gone")
                }
                Err(error) => return Err(error).context("the supervisor cannot be understood"),
            };
            match event {
                SessionEvent::Plan(text) if text.is_empty() => return Ok(Some(Outcome::Done)),
                SessionEvent::Plan(text) => {
                    self.say_choice();
                    print!("{text}");
                }
                SessionEvent::Refused(refusal) => return Err(Refused(refusal).into()),
                SessionEvent::Ended(reason) => return Ok(Some(Outcome::Ended(reason))),
                SessionEvent::Happened(event) => {
                    if event.kind == EventKind::Started {
                        self.say_choice();
                    }
                    if self.detach && event.kind == EventKind::Started {
                        println!("{}", event.vm);
                        return Ok(Some(Outcome::Detached));
                    }
                    lines::lines(&event.kind).iter().for_each(|line| self.say(line));
                }
            }
        }
    }

    /// Which engine was chosen, once there is something that it executes: a refusal is one line.
    fn say_choice(&mut self) {
        if let Some(line) = self.chosen.take() {
            self.say(&line);
        }
    }

    fn say(&self, line: &str) {
        let end = if self.raw.is_some() { "\r\n" } else { "\n" };
        eprint!("bulkhead: {line}{end}");
    }
}
