//! From exec to the seal.
//!
//! A failure before the seal is kept and told by [`Start::seal`], so that a class's `main` has one
//! place where a start can fail.

use bulkhead_channel::{Channel, Message};
use bulkhead_protocol::VERSION;
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::start::{CHANNEL_FD, FromHelper, SealReport};
use bulkhead_seccomp::Threads;
use bulkhead_sys::{heap, inherited, process, text};

use crate::landlock::{self, Walls};
use crate::{Helper, RuntimeError, last_words};

/// A process that is not sealed yet. It may make its threads now; they are sealed with it.
#[derive(Debug)]
#[must_use = "an unsealed process must not go on"]
pub struct Start {
    class: ProcessClass,
    walls: Result<Walls, RuntimeError>,
}

impl Start {
    /// Prepares a helper: to be the first thing its `main` does, before any thread is made.
    pub fn new(class: ProcessClass) -> Self {
        let walls = prepare(class).and_then(|()| landlock::deny_all());
        Self { class, walls }
    }

    /// Prepares a process that has to open or mount itself, and so has no Landlock domain: the
    /// supervisor and the launcher.
    pub fn without_landlock(class: ProcessClass) -> Self {
        let walls = prepare(class).map(|()| Walls { abi: 0, missing: Vec::new() });
        Self { class, walls }
    }

    /// Seals all threads and reports it on the channel. `C` is the class's command type, `E` its
    /// event type.
    pub fn seal<C: Message, E: Message>(self) -> Result<Helper<C, E>, RuntimeError> {
        let socket = inherited::take(CHANNEL_FD).map_err(RuntimeError::at("channel"))?;
        let channel = Channel::from_fd(socket);
        let report = self.seal_unreported()?;
        channel.send(&FromHelper::<E>::Sealed(report), &[])?;
        Ok(Helper::new(channel))
    }

    /// Seals all threads and tells the caller alone.
    pub fn seal_unreported(self) -> Result<SealReport, RuntimeError> {
        let walls = self.walls?;
        let probe_refused = walls.abi > 0 && landlock::probe_is_refused();
        text::give_back();
        install(self.class.name(), Threads::All)?;
        Ok(SealReport {
            version: VERSION,
            landlock_abi: walls.abi,
            landlock_missing: walls.missing,
            probe_refused,
        })
    }
}

fn prepare(class: ProcessClass) -> Result<(), RuntimeError> {
    last_words::install(class.name());
    heap::share_one();
    process::name_thread(class.name());
    process::forbid_dumps().map_err(RuntimeError::at("forbid core dumps"))?;
    // The supervisor may outlive the command; its session says whether it does.
    if class != ProcessClass::Supervisor {
        process::die_with_parent().map_err(RuntimeError::at("die with the supervisor"))?;
    }
    process::reset_fault_handlers().map_err(RuntimeError::at("reset fault handlers"))?;
    process::forbid_new_privileges().map_err(RuntimeError::at("forbid new privileges"))
}

/// Stacks the filter of a profile that is narrower than the process's own (`core-vcpu`) on the
/// calling thread. To be called after the process was sealed: a thread with filters of its own
/// cannot be sealed with the others.
pub fn seal_thread(profile: &str) -> Result<(), RuntimeError> {
    install(profile, Threads::Calling)
}

fn install(profile: &str, threads: Threads) -> Result<(), RuntimeError> {
    let no_profile = || RuntimeError::NoProfile(profile.to_owned());
    let program = bulkhead_seccomp::program(profile).ok_or_else(no_profile)?;
    program.install(threads).map_err(RuntimeError::at("seccomp"))
}
