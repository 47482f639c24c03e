//! Taking over from a predecessor that was killed.
//!
//! The file is as the last commit left it, or a commit was under way; either way each record says how
//! something became afterwards, so applying all of them in order ends where the predecessor was. A record
//! is an allegation like the image itself: what does not fit is damage.

use super::geometry::{END_OF_OFFSETS, OFFSET};
use super::journal::Record;
use super::slices::Kind;
use super::{Free, Qcow2};
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

impl<S: Storage> Qcow2<S> {
    /// Applies what the journal has.
    pub(super) async fn replay(&self, records: &[Record]) -> Outcome {
        self.replaying.set(true);
        for record in records {
            self.apply(*record).await?;
        }
        // Taken by requests that were never answered.
        let taken = std::mem::take(&mut self.state.borrow_mut().taken);
        for cluster in taken {
            if self.count(cluster).await? > 0 {
                let number = self.state.borrow().next_free;
                self.apply_free(cluster, number);
            }
        }
        self.replaying.set(false);
        Ok(())
    }

    async fn apply(&self, record: Record) -> Outcome {
        match record {
            Record::Count { cluster, count } => {
                self.state.borrow_mut().taken.remove(&cluster);
                self.apply_count(cluster, count).await
            }
            Record::Take { cluster } => {
                self.apply_count(cluster, 1).await?;
                self.state.borrow_mut().taken.insert(cluster);
                Ok(())
            }
            Record::Block { index, at } => self.apply_block(index, at).await,
            Record::Table { index, at } => self.apply_table(index, at).await,
            Record::Entry { cluster, descriptor, bitmap } => {
                let there = self.place(&self.state.borrow(), cluster)?.is_some();
                match there {
                    true => self.put_numbers(cluster, descriptor, bitmap).await,
                    false => Err(Failure::IO),
                }
            }
            Record::Free { cluster, number } => {
                self.apply_free(cluster, number);
                Ok(())
            }
            // They wait until the bitmaps are read.
            Record::Consistent { .. } | Record::Dirty { .. } => Ok(()),
        }
    }

    async fn apply_count(&self, cluster: u64, count: u64) -> Outcome {
        let bits = self.geometry.cluster_bits;
        let known = {
            let state = self.state.borrow();
            self.block(&state, cluster / self.geometry.counts())?.is_some()
        };
        // A refcount table that was growing: nobody used the new part yet.
        if !known {
            return Ok(());
        }
        if cluster >= END_OF_OFFSETS >> bits || count > self.geometry.most() {
            return Err(Failure::IO);
        }
        self.set_count(cluster, count).await?;
        let state = &mut *self.state.borrow_mut();
        if let Some(index) = state.frees.iter().position(|free| free.cluster == cluster) {
            state.frees.remove(index);
            if count == 0 {
                state.claims.remove(cluster, 1);
                state.slices.purge(cluster << bits, (cluster + 1) << bits);
            }
        }
        let end = (cluster + 1) << bits;
        if count > 0 && state.fresh < end {
            state.fresh = end;
        }
        Ok(())
    }

    async fn apply_block(&self, index: u64, at: u64) -> Outcome {
        let there = {
            let state = self.state.borrow();
            if index as usize >= state.reftable.len() {
                return Ok(());
            }
            self.block(&state, index)?
        };
        match there {
            Some(there) if there == at => Ok(()),
            Some(_) => Err(Failure::IO),
            None if at != 0 && self.geometry.is_start(at) => {
                // It counts itself, if that is its place: the record of that may be missing.
                let own = at >> self.geometry.cluster_bits;
                self.place_block(index, own, own..own + 1).await
            }
            None => Err(Failure::IO),
        }
    }

    async fn apply_table(&self, index: u64, at: u64) -> Outcome {
        let old = self.state.borrow().l1.get(index as usize).copied().ok_or(Failure::IO)? & OFFSET;
        if at == 0 || !self.geometry.is_start(at) || at >= END_OF_OFFSETS {
            return Err(Failure::IO);
        }
        if old == at {
            return Ok(());
        }
        if old != 0 {
            self.state.borrow_mut().claims.remove(old >> self.geometry.cluster_bits, 1);
        }
        // Its predecessor had it in memory, and the file may end before it.
        self.load(at, Kind::Table).await?;
        self.state.borrow_mut().slices.change(at, |_| ());
        self.adopt_table(index, at)
    }

    /// Not of what is in use: a refcount table that was about to move has not, and what was data may
    /// have become a table since. A commit enters what it cannot free yet once more, and forgets what came
    /// before: whoever was killed between the two has left both.
    fn apply_free(&self, cluster: u64, number: u64) {
        let state = &mut *self.state.borrow_mut();
        state.taken.remove(&cluster);
        if state.claims.of(cluster, 1).is_some() {
            return;
        }
        let (commit, op) = (state.begun + 1, state.first_op);
        if let Err(place) = state.frees.binary_search_by_key(&number, |free| free.number) {
            state.frees.insert(place, Free { cluster, number, commit, op });
            state.next_free = state.next_free.max(number.saturating_add(1));
        }
    }
}
