//! Whether a helper still answers.
//!
//! Called by the live instance at every tick of its metronome ([`TICK`]) and for every answer. Counts
//! ticks, not time: a heartbeat is missed when it was outstanding for [`PATIENCE`] ticks at which the
//! supervisor itself was on time. A late tick (suspend, freezer, a loaded machine) says that nobody
//! had the CPU, so it starts the count anew: it must kill nobody.
//!
//! With a heartbeat every second tick and five ticks of patience, a helper that stops right after an
//! answer is found 7 ticks later, which is below one second.
//!
//! What is absent on purpose: the clock. [`Metronome`] alone is told the time.

use std::time::{Duration, Instant};

/// One tick.
pub const TICK: Duration = Duration::from_millis(125);

/// Ticks from one heartbeat to the next, when it is answered in time.
const PERIOD: u32 = 2;

/// Ticks that a heartbeat may remain unanswered.
const PATIENCE: u32 = 5;

/// Ticks of silence after which it is suspicious, and its load is sampled.
const SUSPICIOUS: u32 = 2;

/// A silent helper that had this much CPU since it became suspicious loops; with less it starves.
const LOOPING: Duration = Duration::from_millis(100);

/// How late the supervisor may wake and still count as on time.
const SLACK: Duration = Duration::from_millis(40);

/// An incarnation that has answered for so long is well: its post's faults are forgotten.
const IDLE: Duration = Duration::from_millis(100);

/// Says when ticks are due and whether they came on time.
#[derive(Debug)]
pub struct Metronome {
    due: Instant,
}

impl Metronome {
    /// Ticks from `now` on.
    pub fn new(now: Instant) -> Self {
        Self { due: now + TICK }
    }

    /// When the next tick is due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// The tick that is due, if one is; several missed ones are one late one.
    pub fn tick(&mut self, now: Instant) -> Option<Tick> {
        let late = now.checked_duration_since(self.due)?;
        self.due = now + TICK;
        Some(if late <= SLACK { Tick::OnTime } else { Tick::Late })
    }
}

/// One tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// The supervisor had the CPU when it wanted it.
    OnTime,
    /// It had not: nobody can be blamed for silence.
    Late,
}

/// What a tick asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Nothing.
    Wait,
    /// Send the heartbeat of this number.
    Send(u64),
    /// It is silent for longer than usual: sample its load.
    Suspect,
    /// The helper is silent for too long.
    Missed,
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is alive.
    Alive,
    /// It is alive and does its work, or has had time enough to fail.
    Well,
    /// It answers what was never asked: a fault.
    Nonsense,
}

/// What the kernel says of a helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// One of its threads wants the CPU, or has it.
    pub runnable: bool,
    /// CPU time of all its threads so far.
    pub used: Duration,
}

/// The heartbeat of one incarnation, from its `Ready` on.
#[derive(Debug)]
pub struct Heartbeat {
    ready_at: Instant,
    number: u64,
    pulse: Pulse,
    /// Its load when it became suspicious.
    suspicious: Option<Load>,
}

#[derive(Debug)]
enum Pulse {
    /// The last one was answered; ticks until the next.
    Resting(u32),
    /// Number `Heartbeat::number` is outstanding for so many ticks on time.
    Awaiting(u32),
}

impl Heartbeat {
    /// An incarnation that said `Ready` at `now`. Its first heartbeat goes out at the next tick.
    pub fn new(now: Instant) -> Self {
        Self { ready_at: now, number: 0, pulse: Pulse::Resting(1), suspicious: None }
    }

    /// One tick.
    pub fn tick(&mut self, tick: Tick) -> Beat {
        match (&mut self.pulse, tick) {
            (Pulse::Resting(ticks), _) if *ticks > 1 => {
                *ticks -= 1;
                Beat::Wait
            }
            (Pulse::Resting(_), _) => {
                self.number += 1;
                self.pulse = Pulse::Awaiting(0);
                Beat::Send(self.number)
            }
            (Pulse::Awaiting(ticks), Tick::Late) => {
                *ticks = 0;
                Beat::Wait
            }
            (Pulse::Awaiting(ticks), Tick::OnTime) => {
                *ticks += 1;
                match *ticks {
                    SUSPICIOUS => Beat::Suspect,
                    ticks if ticks >= PATIENCE => Beat::Missed,
                    _ => Beat::Wait,
                }
            }
        }
    }

    /// The load of a helper that is suspicious.
    pub fn note(&mut self, load: Load) {
        self.suspicious = Some(load);
    }

    /// Whether a heartbeat is outstanding for so long that the helper hangs. `load` is what it is
    /// now: a helper that wants the CPU and gets none is not to blame, and is given the whole time
    /// again.
    pub fn hangs(&mut self, load: Option<Load>) -> bool {
        let Pulse::Awaiting(ticks) = &mut self.pulse else {
            return false;
        };
        let starves = match (self.suspicious.take(), load) {
            (Some(before), Some(now)) => {
                now.runnable && now.used.saturating_sub(before.used) < LOOPING
            }
            _ => false,
        };
        if starves {
            *ticks = 0;
        }
        *ticks >= PATIENCE
    }

    /// An answer to heartbeat `number`, with the helper's count of completed requests.
    pub fn answered(&mut self, now: Instant, number: u64, progress: u64) -> Answer {
        let Pulse::Awaiting(ticks) = self.pulse else {
            return Answer::Nonsense;
        };
        if number != self.number {
            return Answer::Nonsense;
        }
        self.pulse = Pulse::Resting(PERIOD.saturating_sub(ticks).max(1));
        if progress > 0 || now.saturating_duration_since(self.ready_at) >= IDLE {
            Answer::Well
        } else {
            Answer::Alive
        }
    }
}

#[cfg(test)]
mod tests;
