//! Room ahead: where the file system makes writers behind the end of a file wait for each other, the file is
//! made longer in big steps before that, and cut to what is used when the image is left.
//!
//! Absent on purpose: errors. A host that has no room for a big step may have some for a cluster, and room
//! that is left behind a crash is at most a step long and nobody's.

use super::Qcow2;
use crate::storage::Storage;

/// A step is a quarter of the file, within these bounds.
const LEAST_STEP: u64 = 1 << 20;
const MOST_STEP: u64 = 64 << 20;

impl<S: Storage> Qcow2<S> {
    /// The file is to be at least that long, and should have room for what comes next.
    pub(super) async fn stay_ahead(&self, end: u64) {
        if !self.file.wants_room() || end <= self.state.borrow().room {
            return;
        }
        let _making = self.making_room.hold_all().await;
        let from = self.state.borrow().room;
        if end <= from {
            return;
        }
        let to = end + (end / 4).clamp(LEAST_STEP, MOST_STEP);
        let _nothing_is_lost = self.file.make_room(from, to - from).await;
        self.state.borrow_mut().room = to;
    }

    /// Nothing is under way any more: gives back what was not used. An image whose file was shorter than its
    /// tables say may have been written behind its end: what is counted stays.
    pub(super) async fn give_back_room(&self) {
        let (fresh, room) = {
            let state = self.state.borrow();
            (state.fresh, state.room)
        };
        let is_longer = self.file.size().is_ok_and(|size| size > fresh);
        if !self.file.wants_room() || fresh >= room || !is_longer {
            return;
        }
        let bits = self.geometry.cluster_bits;
        let mut end = room.div_ceil(self.geometry.cluster());
        while end > fresh >> bits {
            match self.count(end - 1).await {
                Ok(0) => end -= 1,
                _ => break,
            }
        }
        let used = fresh.max(end << bits);
        if used < room && self.file.cut(used).await.is_ok() {
            self.state.borrow_mut().room = used;
        }
    }
}
