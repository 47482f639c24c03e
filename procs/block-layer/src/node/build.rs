//! From plan to live: the nodes that a disk's filters are.

use std::rc::Rc;
use std::time::Duration;

use bulkhead_protocol::filters::{Fault as Rule, FaultThen, Filters, Limits};

use super::{Delay, Fault, Faults, Levels, Node, Throttle, What};
use crate::outcome::Failure;

/// The nodes, the first that a request comes to first. None for a disk without filters: lanes may go past
/// it then. `group` are the levels of the throttle group, if it is in one.
pub fn nodes(filters: &Filters, group: Option<Levels>) -> Vec<Rc<Node>> {
    let Filters { delay_ms, limits, copy_on_read, faults, .. } = filters;
    let mut nodes = Vec::new();
    if group.is_some() || *limits != Limits::default() {
        let levels = group.unwrap_or_default();
        nodes.push(Node::Throttle(Rc::new(Throttle::with(*limits, levels))));
    }
    if *delay_ms > 0 {
        nodes.push(Node::Delay(Delay(Duration::from_millis(u64::from(*delay_ms)))));
    }
    if !faults.is_empty() {
        nodes.push(Node::Faults(Faults::new(faults.iter().map(fault).collect())));
    }
    if *copy_on_read {
        nodes.push(Node::CopyOnRead);
    }
    nodes.into_iter().map(Rc::new).collect()
}

fn fault(rule: &Rule) -> Fault {
    let Rule { on, at, len, after, times, then } = *rule;
    let end = if len == 0 { u64::MAX } else { at.saturating_add(len) };
    Fault {
        on,
        range: (at > 0 || len > 0).then_some(at..end),
        after,
        times: (times > 0).then_some(times),
        what: match then {
            FaultThen::Fail(errno) => What::Fail(Failure::of(errno)),
            FaultThen::Wait(time) => What::Wait(Duration::from_millis(u64::from(time))),
        },
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_protocol::filters::FaultOn;

    use super::*;

    #[test]
    fn a_disk_without_filters_has_no_nodes() {
        assert!(nodes(&Filters::default(), None).is_empty());
    }

    #[test]
    fn a_rule_without_a_range_strikes_flushes_as_well() {
        let then = FaultThen::Fail(28);
        let rule = Rule { on: FaultOn::Any, at: 0, len: 0, after: 2, times: 1, then };
        let whole = fault(&rule);
        assert_eq!((whole.range, whole.after, whole.times), (None, 2, Some(1)));
        assert_eq!(whole.what, What::Fail(Failure::NO_SPACE));
        let part = fault(&Rule { at: 4096, ..rule });
        assert_eq!(part.range, Some(4096..u64::MAX));
    }
}
