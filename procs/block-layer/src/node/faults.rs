//! A node that makes requests fail or wait where a rule says so: QEMU's `blkdebug`, for tests of what is
//! above it.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bulkhead_protocol::filters::FaultOn;

use crate::clock::{Clock, wait_for};
use crate::disk::Operation;
use crate::outcome::{Failure, Outcome};

/// What happens to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// They fail so.
    Fail(Failure),
    /// They wait so long.
    Wait(Duration),
}

/// A rule.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Which requests.
    pub on: FaultOn,
    /// Bytes of which a request touches at least one; `None`: any, or none.
    pub range: Option<Range<u64>>,
    /// How many of those requests pass first.
    pub after: u64,
    /// For how many it happens then; `None`: for all.
    pub times: Option<u64>,
    /// What happens.
    pub what: What,
}

#[derive(Debug)]
struct Rule {
    fault: Fault,
    seen: Cell<u64>,
}

/// The node.
#[derive(Debug)]
pub struct Faults {
    waits: Vec<Rule>,
    failures: Vec<Rule>,
}

impl Faults {
    /// Of these rules. The first that fails a request ends it.
    pub fn new(faults: Vec<Fault>) -> Self {
        let rules = faults.into_iter().map(|fault| Rule { fault, seen: Cell::new(0) });
        let (waits, failures) = rules.partition(|rule| matches!(rule.fault.what, What::Wait(_)));
        Self { waits, failures }
    }

    /// How a request fails, if a rule says so. A request that is tried again is another one.
    pub(super) fn failure(&self, operation: &Operation) -> Option<Failure> {
        self.failures.iter().find_map(|rule| match rule.applies(operation) {
            Some(What::Fail(failure)) => Some(failure),
            _ => None,
        })
    }

    pub(super) async fn admit(
        &self,
        operation: &Operation,
        clock: &Rc<dyn Clock>,
        revoked: &AtomicBool,
    ) -> Outcome {
        for rule in &self.waits {
            if let Some(What::Wait(time)) = rule.applies(operation) {
                wait_for(clock, clock.now() + time, revoked).await?;
            }
        }
        Ok(())
    }
}

impl Rule {
    fn applies(&self, operation: &Operation) -> Option<What> {
        let Fault { on, range, after, times, what } = &self.fault;
        let kind = match operation {
            Operation::Read { .. } => FaultOn::Read,
            Operation::Write { .. } => FaultOn::Write,
            Operation::Zero { .. } => FaultOn::Zero,
            Operation::Discard { .. } => FaultOn::Discard,
            Operation::Flush => FaultOn::Flush,
            // No rule is about it.
            Operation::Status { .. } => return None,
        };
        let bytes = operation.range();
        let there = |range: &Range<u64>| bytes.start < range.end && range.start < bytes.end;
        if (*on != FaultOn::Any && *on != kind) || !range.as_ref().is_none_or(there) {
            return None;
        }
        let seen = self.seen.get();
        self.seen.set(seen + 1);
        let now = seen >= *after && times.is_none_or(|times| seen - after < times);
        now.then_some(*what)
    }
}
