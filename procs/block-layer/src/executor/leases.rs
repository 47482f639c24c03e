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
        let lanes = self.exports.iter().flat_map(|export| export.lanes());
        for lane in lanes {
            let Some(lent) = self.lent.get_mut(lane) else {
                continue;
            };
            match (*lent, &lease) {
                (Lent::None, Some(_)) => {
                    *lent = Lent::Out;
                    graph.disk().bypass().lent();
                    self.lanes[lane].post(ToLane::Lease(lease.clone()));
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
