//! Copying what is marked until nothing is, and the end: for mirrors, and for commits of an active layer.

use std::ops::Range;
use std::rc::Rc;

use super::Following;
use crate::disk::{Attached, Change, Disk, Drained, Watcher};
use crate::job::Host;
use crate::job::control::{Ended, Side};
use crate::job::copy::{LONGEST, Together, copy};
use crate::outcome::Failure;
use crate::qcow2::Layer;
use crate::storage::Storage;

/// A copy that is over.
type Copied = (Range<u64>, Result<(), (Side, Failure)>);

/// A target that follows a disk.
pub(in crate::job) struct Pursuit<S: Storage> {
    disk: Rc<Disk<S>>,
    following: Rc<Following<S>>,
    /// Sees the disk's changes as long as this is there.
    _attached: Attached<S>,
}

impl<S: Storage> Pursuit<S> {
    /// From now on every change of the disk is marked.
    pub(in crate::job) async fn begin(disk: &Rc<Disk<S>>, following: &Rc<Following<S>>) -> Self {
        let watcher = Watcher::Mirror(Rc::clone(following));
        let _attached = disk.attach(watcher).await;
        Self { disk: Rc::clone(disk), following: Rc::clone(following), _attached }
    }

    /// Marks everything that is there, above the base.
    pub(in crate::job) async fn mark_all(&self) -> Result<(), Ended> {
        let Following { control, dirty, base, .. } = &*self.following;
        let size = self.disk.size();
        let mut at = 0;
        while at < size {
            control.step(0).await?;
            let top = self.disk.top();
            let base = base.as_ref().and_then(|base| top.depth_of(base));
            match top.piece(at, (size - at).min(1 << 30)).await {
                Ok(piece) => {
                    if piece.is_above(base) {
                        dirty.set(at..at + piece.len);
                    }
                    at += piece.len;
                }
                Err(failure) => control.failed(Side::Source, failure).await?,
            }
            self.following.account();
        }
        Ok(())
    }

    /// Copies until the job is completed or ends. `change` says what completion changes, of the chain as
    /// it is then.
    pub(in crate::job) async fn run(
        &self,
        host: &impl Host<S>,
        change: impl Fn(&Layer<S>) -> Option<Change<S>>,
    ) -> Result<(), Ended> {
        let Following { control, dirty, .. } = &*self.following;
        loop {
            self.catch_up().await?;
            control.set_actively_synced(self.following.is_blocking());
            control.set_ready();
            if !control.is_completing() {
                control.until(|| !dirty.is_clean() || control.is_completing()).await;
                control.step(0).await?;
                continue;
            }
            // The long part of the flush, before anybody has to wait for it.
            let flush = async || {
                let flushed = self.following.target.flush().await;
                flushed.map_err(|failure| (Side::Target, failure))
            };
            control.insist(flush).await?;
            control.set_pending()?;
            match self.end(host, &change).await? {
                Ok(()) => return Ok(()),
                Err((side, failure)) => {
                    control.unset_pending();
                    control.failed(side, failure).await?;
                }
            }
        }
    }

    /// Copies what is marked until nothing is.
    async fn catch_up(&self) -> Result<(), Ended> {
        let Following { control, dirty, .. } = &*self.following;
        let mut copies = Together::new();
        let mut from = 0;
        let ended = loop {
            if let Err(ended) = self.collect(&mut copies).await {
                break Err(ended);
            }
            let next = dirty.next_dirty(from, LONGEST).or_else(|| dirty.next_dirty(0, LONGEST));
            let Some(range) = next else {
                if copies.is_empty() {
                    break Ok(());
                }
                continue;
            };
            if let Err(ended) = copies.beside(control.step(range.end - range.start)).await {
                break Err(ended);
            }
            // It may have been written through meanwhile; then there is nothing to copy.
            let next = dirty.next_dirty(range.start, LONGEST).filter(|next| *next == range);
            if next.is_some() {
                from = range.end;
                copies.add(self.copy(range));
            }
        };
        // What is under way ends: nothing is dropped half way.
        while !copies.is_empty() {
            let (range, done) = copies.next().await;
            self.copied(&range, done.is_ok());
        }
        ended
    }

    /// Takes what is over: one at least, if there is room for no other or nothing is marked.
    async fn collect<'a>(&self, copies: &mut Together<'a, Copied>) -> Result<(), Ended> {
        let Following { control, dirty, .. } = &*self.following;
        while copies.is_full() || (dirty.is_clean() && !copies.is_empty()) {
            let (range, done) = copies.next().await;
            self.copied(&range, done.is_ok());
            match done {
                Ok(()) => control.succeeded(),
                Err((side, failure)) => copies.beside(control.failed(side, failure)).await?,
            }
        }
        Ok(())
    }

    /// Copies a range that is marked. From now on it is not, so that changes meanwhile mark it again.
    fn copy(&self, range: Range<u64>) -> impl Future<Output = Copied> + use<S> {
        let following = Rc::clone(&self.following);
        let disk = Rc::clone(&self.disk);
        following.dirty.clear(range.clone());
        let len = range.end - range.start;
        following.in_flight.set(following.in_flight.get() + len);
        async move {
            let _held = following.ranges.hold(range.clone()).await;
            let Following { target, base, .. } = &*following;
            let done = copy(&disk.top(), target, base.as_ref(), range.start, len).await;
            (range, done)
        }
    }

    fn copied(&self, range: &Range<u64>, succeeded: bool) {
        let Following { control, dirty, in_flight, .. } = &*self.following;
        let len = range.end - range.start;
        in_flight.set(in_flight.get() - len);
        if succeeded {
            control.progress(len);
        } else {
            dirty.set(range.clone());
        }
        self.following.account();
    }

    /// Nobody writes any more: the rest is copied, and the change made.
    async fn end(
        &self,
        host: &impl Host<S>,
        change: &impl Fn(&Layer<S>) -> Option<Change<S>>,
    ) -> Result<Result<(), (Side, Failure)>, Ended> {
        let drained = self.disk.drain().await;
        if let Err(failed) = self.copy_rest().await {
            return Ok(Err(failed));
        }
        let Following { control, target, .. } = &*self.following;
        if let Err(failure) = target.flush().await {
            return Ok(Err((Side::Target, failure)));
        }
        if control.is_leaving() {
            return Ok(target.close().await.map_err(|failure| (Side::Target, failure)));
        }
        self.pivot(host, change, &drained).await?;
        Ok(Ok(()))
    }

    async fn copy_rest(&self) -> Result<(), (Side, Failure)> {
        while let Some(range) = self.following.dirty.next_dirty(0, LONGEST) {
            let (range, done) = self.copy(range).await;
            self.copied(&range, done.is_ok());
            done?;
        }
        Ok(())
    }

    async fn pivot(
        &self,
        host: &impl Host<S>,
        change: &impl Fn(&Layer<S>) -> Option<Change<S>>,
        drained: &Drained<'_>,
    ) -> Result<(), Ended> {
        let old = self.disk.top();
        let change = change(&old).ok_or(Failure::INVALID)?;
        // It is left as a whole image. If it cannot be written any more, that is why it is left.
        let _best = old.shut().await;
        host.switch(&change).await?;
        self.disk.apply(&change, drained);
        Ok(())
    }
}
