//! Leases of lanes: handed out while the disk may be gone past, taken back when somebody wants to see
//! every request.
//!
//! ```text
//! None ──(may lend)──▶ Out ──(may not)──▶ Returning ──(returned)──▶ None
//! ```

use super::Executor;
use crate::graph::Graph;
use crate::lane::ToLane;

/// What a lane has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lent {
    None,
    Out,
    Returning,
}

impl Executor {
    /// Brings every lane's lease up to what the disk allows now. After each turn.
    pub(super) fn settle_leases(&mut self) {
        let Some(graph) = &self.graph else {
            return;
        };
        let lease = graph.lease();
        for (lane, lent) in self.lent.iter_mut().enumerate() {
            // A lane whose export was removed may still have one.
            let serves = self.exports.iter().any(|export| export.lanes().contains(&lane));
            match (*lent, lease.as_ref().filter(|_| serves)) {
                (Lent::None, Some(lease)) => {
                    *lent = Lent::Out;
                    graph.disk().bypass().lent();
                    self.lanes[lane].post(ToLane::Lease(Some(lease.clone())));
                }
                (Lent::Out, None) => {
                    *lent = Lent::Returning;
                    self.lanes[lane].post(ToLane::Lease(None));
                }
                _ => {}
            }
        }
    }

    /// A lane has given its lease back.
    pub(super) fn lease_returned(&mut self, lane: usize) {
        if let Some(lent @ Lent::Returning) = self.lent.get_mut(lane) {
            *lent = Lent::None;
            self.graph.as_mut().into_iter().for_each(Graph::lease_returned);
        }
    }
}
