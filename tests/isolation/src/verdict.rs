//! What the kernel made of one system call in a jail, and what the profile says it must.

use std::path::Path;

use bulkhead_manifest::filter::{Call, Filter};
use bulkhead_manifest::rule::{Comparison, Condition, Rule};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_sys::pidfd::Death;

use crate::attempt::{Abi, Order, Told};
use crate::{Ending, User, Warden};

/// SIGSYS: the filter killed it.
const SIGSYS: i32 = 31;

/// What a misplaced trampoline call ends in.
const SIGILL: i32 = 4;

/// An argument that no rule speaks about: no descriptor, no pointer, no length.
const NOTHING: u64 = u64::MAX;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The filter killed the process.
    Killed,
    /// The filter answered it with this error, or let it through and the kernel did.
    Refused(i32),
    /// It was made, and the process lived on.
    Made,
    /// It was made, and was the process's end.
    Ended(Death),
}

/// Calls that the kernel lets by every filter: they are for the trampolines that it puts into
/// processes that are traced by uprobes, and refuse to be made from anywhere else.
pub const TRAMPOLINES: [i64; 2] = [335, 336];

impl Verdict {
    /// Whether nothing came of it, though no filter looked at it.
    pub fn is_harmless(self) -> bool {
        let refused = matches!(self, Self::Refused(_));
        refused || matches!(self, Self::Ended(Death::Signaled(SIGILL)) | Self::Killed)
    }
}

/// A launcher whose probes make one call each.
#[derive(Debug)]
pub struct Court {
    warden: Warden,
    class: ProcessClass,
}

impl Court {
    /// For probes of one class.
    pub fn of(class: ProcessClass, probe: &Path) -> Self {
        Self { warden: Warden::new(User::Same, probe, &[], Vec::new()), class }
    }

    /// Makes the call in a fresh process in the real jail.
    pub fn judge(&mut self, abi: Abi, number: i64, arguments: [u64; 6]) -> Verdict {
        let mut inmate = self.warden.start(self.class, &[]).expect("it starts");
        inmate.sealed();
        let order = Order::Call { abi, number: number as u64, arguments };
        match inmate.order(order, &[]) {
            Ending::Died(Death::Signaled(SIGSYS)) => Verdict::Killed,
            Ending::Told(Told::Refused(errno)) => Verdict::Refused(errno),
            // exit_group ends it, rt_sigreturn without a signal frame crashes it.
            Ending::Died(death) => Verdict::Ended(death),
            Ending::Told(_) => Verdict::Made,
        }
    }
}

/// Arguments that satisfy a rule, and say nothing elsewhere.
pub fn good(rule: &Rule) -> [u64; 6] {
    let mut arguments = [NOTHING; 6];
    for condition in rule {
        let value = match condition.comparison().expect("a lawful profile") {
            Comparison::MaskedEqual(_, value)
            | Comparison::Equal(value)
            | Comparison::AtMost(value)
            | Comparison::AtLeast(value) => value,
            Comparison::NotEqual(value) | Comparison::Greater(value) => value.wrapping_add(1),
            Comparison::Less(value) => value.wrapping_sub(1),
        };
        set(&mut arguments, condition, value);
    }
    arguments
}

/// Three or more variations of a rule's arguments that no rule of the call admits.
pub fn bad(filter: &Filter, call: &Call, rule: &Rule) -> Vec<[u64; 6]> {
    let base = good(rule);
    let mut found = Vec::new();
    for condition in rule {
        let value = base[usize::from(condition.arg)];
        let flipped = [0, 31, 7, 20, 30, 12].map(|bit| value ^ (1 << bit));
        for other in flipped.into_iter().chain([value.wrapping_add(0x40), !value]) {
            let mut arguments = base;
            set(&mut arguments, condition, other);
            if !is_survived(filter, call.number, &arguments) {
                found.push(arguments);
            }
        }
    }
    found.truncate(4);
    found
}

/// Whether the filter lets the call live: it is made or answered.
pub fn is_survived(filter: &Filter, number: i64, arguments: &[u64; 6]) -> bool {
    let calls = filter.survived();
    let call = calls.iter().find(|call| call.number == number);
    call.is_some_and(|call| call.admits(arguments).expect("a lawful profile"))
}

fn set(arguments: &mut [u64; 6], condition: &Condition, value: u64) {
    arguments[usize::from(condition.arg)] = value;
}
