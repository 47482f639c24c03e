//! What lanes learn of where clusters are, and when they must forget it.
//!
//! A request that was served here is one that a lane could not serve: afterwards it knows. A discard or
//! write-zeroes takes clusters away from their places: leases come back first, and go out again when
//! the lanes' knowledge is right again.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::disk::{Disk, Operation};
use crate::lane::Mapped;
use crate::node::Served;
use crate::outcome::{Failure, Outcome};
use crate::qcow2::Layer;

/// What lanes know, and at which of the disk's changes that began.
pub(super) type Known = RefCell<Option<(u64, Arc<Mapped>)>>;

/// Performs a request, and tells lanes what it has changed or found out.
pub(super) async fn perform(
    disk: &Rc<Disk<Served>>,
    mapped: &Known,
    operation: &Operation,
    revoked: &AtomicBool,
    failed: Option<Failure>,
) -> Outcome {
    let known = || mapped.borrow().as_ref().map(|(_, mapped)| Arc::clone(mapped));
    let range = operation.range();
    // Lanes whose leases are on their way back may still write what they knew.
    let lent = || known().is_some() || disk.bypass().out() > 0;
    if matches!(operation, Operation::Discard { .. } | Operation::Zero { .. }) && lent() {
        let barred = disk.bypass().bar_briefly().await;
        let outcome = disk.perform_again(operation, revoked, failed).await;
        if let Some(mapped) = known() {
            mapped.forget(&range);
        }
        drop(barred);
        return outcome;
    }
    let outcome = disk.perform_again(operation, revoked, failed).await;
    if let (Ok(()), Some(mapped), Layer::Qcow2(image)) = (outcome, known(), disk.top())
        && disk.may_lend()
    {
        let changes = disk.bypass().changes();
        for cluster in mapped.clusters(&range) {
            let host = image.lendable(cluster).await;
            // Others may have come and gone while the counts were read.
            let is_known = disk.may_lend() && disk.bypass().changes() == changes;
            // A lane takes the end of the file for a fault: the last cluster may not be there in full yet.
            if let (true, Some(host), Some(file)) = (is_known, host, image.guest_data().image())
                && file.reaches(host + image.cluster_size())
            {
                mapped.enter(cluster, host);
            }
        }
    }
    outcome
}
