//! The living instance: one thread, one loop, no wait but the one for news.
//!
//! Called by `main` with a plan. Law: the supervisor never blocks on a helper. Every message to one is
//! queued if need be, every expectation of one has a timer, and whatever a helper says is an
//! allegation that can at most cost its sender its life.
//!
//! | file | what |
//! | --- | --- |
//! | [`begin`] | posts, disks and devices from the plan |
//! | [`post`], [`process`] | who holds which place, and in which phase |
//! | [`launch`], [`life`], [`death`], [`pulse`] | ordering, attesting and planning, reaping, heartbeats |
//! | [`disk`], [`device`], [`foreign`], [`machine`], [`export`], [`nbd`], [`gdb`] | what the plan of each role is, and what its death means |
//! | [`remote`] | sockets for layers on servers |
//! | [`block`] | graphs and jobs: what users ask, and the record of it |
//! | [`control`], [`session`], [`events`] | who asks, who is told |
//! | [`end`] | tearing down |

mod allowance;
mod begin;
mod block;
mod block_plan;
mod consumer;
mod control;
mod cords;
mod death;
mod device;
mod disk;
mod end;
mod events;
mod export;
mod foreign;
mod gdb;
mod launch;
mod launcher;
mod life;
mod link;
mod log;
mod machine;
mod nbd;
mod post;
mod process;
mod pulse;
mod remote;
mod session;
mod soft_cpu;
mod streams;
mod token;

use std::os::fd::AsFd;
use std::time::Instant;

use bulkhead_protocol::block::LayerNumber;
use bulkhead_protocol::event::EndReason;
use bulkhead_protocol::session::Refusal;
use bulkhead_sys::poller::{self, Interest, Poller};

pub use launcher::Launcher;
pub use session::{Session, Terms};

use crate::heartbeat::Metronome;
use crate::plan::Plan;
use crate::signals::Signals;
use crate::timers::Timers;
use control::Call;
use device::Device;
use disk::Disk;
use machine::Machine;
use post::Post;
use streams::Streams;
use token::{Part, PostIndex, Token};

/// How an instance came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ran and ended.
    Ended(EndReason),
    /// It could not start, by the fault of the spec or the host.
    Refused(Refusal),
}

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The process of this order should have its seal, or its `Ready`, by now.
    Start(PostIndex, u64),
    /// The process of this order closed its channel and should be dead by now.
    Silent(PostIndex, u64),
    /// The killed process of this order should have been reaped by now.
    Reaped(PostIndex, u64),
    /// The back-off of this number is over.
    Successor(PostIndex, u64),
    /// The log of the process of this order may be read again.
    Log(PostIndex, u64),
    /// The launcher's log may be read again.
    LauncherLog,
    /// The guest should have powered off by now.
    PowerOff(u64),
    /// Core blamed the process of this order and should have changed its mind by now.
    Suspected(PostIndex, u64),
    /// A foreign backend is tried again.
    Redial(usize),
    /// The listening socket of this disk is watched again.
    Listen(usize),
    /// A socket for this layer of a disk, for the process of this order.
    Dial {
        /// Which disk.
        disk: usize,
        /// Which layer.
        layer: LayerNumber,
        /// For whom.
        ticket: u64,
    },
    /// The members of this transaction should be ready by now.
    Snapshot(u64),
}

/// The instance. Its plan's folder is the last thing to be dropped.
pub struct Instance {
    /// Ours, asked before the seal.
    pid: i32,
    poller: Poller,
    timers: Timers<Due>,
    metronome: Metronome,
    next_number: u64,
    signals: Signals,
    session: Option<Session>,
    launcher: Launcher,
    posts: Vec<Post>,
    machine: Option<Machine>,
    devices: Vec<Device>,
    disks: Vec<Disk>,
    streams: Streams,
    calls: Vec<Call>,
    /// Calls that wait for soft-cpu's counters.
    counts: Vec<u64>,
    /// What block-layers have not answered, and who waits for more than one answer.
    orders: Vec<block::order::Waiting>,
    queries: Vec<block::query::Query>,
    snapshots: Vec<block::snapshot::Snapshot>,
    /// The working directory, as text: users' paths begin there.
    folder: std::path::PathBuf,
    api: control::Api,
    proc: crate::attest::Proc,
    started: bool,
    outcome: Option<Outcome>,
    plan: Plan,
}

impl Instance {
    /// Runs the instance to its end and tears it down.
    pub fn run(mut self) {
        let mut news = Vec::new();
        while self.outcome.is_none() {
            news.clear();
            let sleep = self.next_due().saturating_duration_since(Instant::now());
            if let Err(error) = self.poller.wait(Some(sleep), &mut news) {
                self.fail(format!("the supervisor cannot wait for news: {error}"));
                break;
            }
            let tick = self.tick();
            for event in &news {
                self.dispatch(*event);
            }
            if let Some(tick) = tick {
                self.beat(tick);
            }
            self.run_timers();
        }
        self.finish();
    }

    fn next_due(&self) -> Instant {
        let tick = self.metronome.due();
        self.timers.first().map_or(tick, |first| first.min(tick))
    }

    fn dispatch(&mut self, event: poller::Event) {
        let Some(token) = Token::decode(event.token) else {
            return;
        };
        match (token, event.writable) {
            (Token::Session, writable) => self.on_session(writable),
            (Token::Signals, _) => self.on_signal(),
            (Token::Launcher(Part::Channel), writable) => self.on_launcher(writable),
            (Token::Launcher(Part::Log), _) => self.on_launcher_log(),
            (Token::Launcher(Part::Death), _) => self.on_launcher_death(),
            (Token::Post(post, Part::Channel), writable) => self.on_channel(post, writable),
            (Token::Post(post, Part::Log), _) => self.on_log(post),
            (Token::Post(post, Part::Death), _) => self.on_death(post),
            (Token::Listener(disk), _) => self.on_frontend(disk),
        }
    }

    fn run_timers(&mut self) {
        while let Some(due) = self.timers.take_due(Instant::now()) {
            match due {
                Due::Start(post, ticket) => self.start_is_due(post, ticket),
                Due::Silent(post, ticket) => self.silence_is_over(post, ticket),
                Due::Reaped(post, ticket) => self.reaping_is_due(post, ticket),
                Due::Successor(post, number) => self.successor_is_due(post, number),
                Due::Log(post, ticket) => self.log_again(post, ticket),
                Due::LauncherLog => self.launcher_log_again(),
                Due::PowerOff(number) => self.power_off_is_due(number),
                Due::Suspected(post, ticket) => self.suspicion_is_due(post, ticket),
                Due::Redial(device) => self.redial(device),
                Due::Listen(disk) => self.listen_again(disk),
                Due::Dial { disk, layer, ticket } => self.dial_is_due(disk, layer, ticket),
                Due::Snapshot(number) => self.snapshot_is_due(number),
            }
        }
    }

    /// A number that names an order or a timer, never used before.
    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn watch(&self, fd: impl AsFd, token: Token) -> std::io::Result<()> {
        self.poller.add(fd, token.encode(), Interest::Read)
    }

    /// The instance cannot go on.
    fn fail(&mut self, reason: String) {
        self.conclude(Outcome::Ended(EndReason::Failed(reason)));
    }

    /// The first conclusion stands.
    fn conclude(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }
}

/// What a channel is watched for: room too, while something waits for it.
fn interest(link: &link::Link) -> Interest {
    if link.is_full() { Interest::ReadWrite } else { Interest::Read }
}
