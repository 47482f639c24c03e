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
use crate::outcome::Outcome;
use crate::qcow2::Layer;

/// What lanes know, and at which of the disk's changes that began.
pub(super) type Known = RefCell<Option<(u64, Arc<Mapped>)>>;

/// Performs a request, and tells lanes what it has changed or found out.
pub(super) async fn perform(
    disk: &Rc<Disk<Served>>,
    mapped: &Known,
    operation: &Operation,
    revoked: &AtomicBool,
) -> Outcome {
    let known = || mapped.borrow().as_ref().map(|(_, mapped)| Arc::clone(mapped));
    let range = operation.range();
    if matches!(operation, Operation::Discard { .. } | Operation::Zero { .. }) && known().is_some()
    {
        let barred = disk.bypass().bar_briefly().await;
        let outcome = disk.perform(operation, revoked).await;
        if let Some(mapped) = known() {
            mapped.forget(&range);
        }
        drop(barred);
        return outcome;
    }
    let outcome = disk.perform(operation, revoked).await;
    if let (Ok(()), Some(mapped), Layer::Qcow2(image)) = (outcome, known(), disk.top())
        && disk.may_lend()
    {
        for cluster in mapped.clusters(&range) {
            // A lane takes the end of the file for a fault: the last cluster may not be there in full yet.
            if let (Some(host), Some(file)) = (image.placed(cluster), image.guest_data().image())
                && file.reaches(host + image.cluster_size())
            {
                mapped.enter(cluster, host);
            }
        }
    }
    outcome
}
