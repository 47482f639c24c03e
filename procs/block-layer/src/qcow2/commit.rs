//! Commits: changed metadata goes to the file, in an order that every crash survives.
//!
//! ```text
//! reclaim   counts of clusters go down whose users the last commit took away
//! batch     everything that has changed is copied; operations go on and change what they like
//! first     counts, new L2 tables, new refcount blocks: nothing in the file refers to the new yet
//!   sync    and with it guest data and copied clusters
//! counts    the refcount table, or the header where the table has moved      (seldom)
//!   sync
//! last      L2 tables, L1 table: now they refer to what is there and counted
//!   sync    the flush is over
//! ```
//!
//! A batch is a moment: what refers and what is referred to were copied at once. If anything of it fails,
//! all of it stays changed and a later commit tries again.

use super::slices::Kind;
use super::{Free, Qcow2, State};
use crate::memory::Heap;
use crate::outcome::Outcome;
use crate::storage::Storage;

/// Bytes for a place in the file.
#[derive(Debug)]
struct Piece {
    at: u64,
    bytes: Vec<u8>,
    /// Of a slice: its version.
    version: u64,
}

/// What one commit writes.
#[derive(Debug)]
struct Batch {
    number: u64,
    first: Vec<Piece>,
    counts: Vec<Piece>,
    last: Vec<Piece>,
    /// New L2 tables of which this batch enters the reference.
    tables: Vec<u64>,
    l1: Vec<usize>,
    reftable: Vec<usize>,
    header: bool,
    /// Of the journal.
    mark: u64,
}

impl<S: Storage> Qcow2<S> {
    /// Everything that was written so far is on stable storage, and the file says where.
    pub async fn flush(&self) -> Outcome {
        match self.options.read_only {
            true => Ok(()),
            false => self.commit().await,
        }
    }

    /// The last flush, when no operation is left: afterwards the file says all there is to say.
    pub async fn close(&self) -> Outcome {
        if self.options.read_only {
            return Ok(());
        }
        self.packing.take();
        // What a commit releases the next one counts down, and writes. What an operation may still look at
        // stays for a later close: to wait for it here would be to wait for this very thread.
        while self.has_changed() && !self.waits_for_operations() {
            self.commit().await?;
        }
        Ok(())
    }

    /// Whether nothing is left but uses of clusters that have ended while others were under way.
    fn waits_for_operations(&self) -> bool {
        let state = self.state.borrow();
        let kept = state.frees.front().is_some_and(|free| free.op > state.first_op);
        kept && !state.has_changed()
    }

    /// The last close of an image that is opened no more by this process: what is kept until then goes to
    /// the file as well.
    pub async fn shut(&self) -> Outcome {
        if !self.options.read_only {
            // What was written in place changed nothing that a commit would have to write.
            self.flush().await?;
        }
        self.close().await?;
        if self.options.read_only || self.options.repair {
            return Ok(());
        }
        self.store_all().await?;
        self.give_back_room().await;
        Ok(())
    }

    /// Whether the file does not say everything yet.
    pub fn has_changed(&self) -> bool {
        let state = self.state.borrow();
        state.has_changed() || !state.frees.is_empty()
    }

    pub(super) async fn commit(&self) -> Outcome {
        let seen = self.state.borrow().begun;
        let _held = self.commits.hold_all().await;
        // One that began after this call has done what was asked for.
        if self.state.borrow().durable > seen {
            return Ok(());
        }
        self.reclaim().await?;
        if self.state.borrow().damage.is_some() {
            return Err(crate::outcome::Failure::IO);
        }
        let batch = self.batch();
        let done = self.write_batch(&batch).await;
        match done {
            Ok(()) => self.committed(batch),
            Err(_) => self.not_committed(batch),
        }
        done
    }

    fn batch(&self) -> Batch {
        let state = &mut *self.state.borrow_mut();
        state.begun += 1;
        self.unrecorded.set(false);
        let mark = self.journal.mark();
        let cluster = !(self.geometry.cluster() - 1);
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for (at, slice) in state.slices.dirty() {
            let piece = Piece { at, bytes: slice.bytes.to_vec(), version: slice.version };
            let unseen = slice.kind == Kind::Block || state.new_tables.contains(&(at & cluster));
            if unseen { first.push(piece) } else { last.push(piece) }
        }
        let l1: Vec<usize> = std::mem::take(&mut state.l1_dirty).into_iter().collect();
        let reftable: Vec<usize> = std::mem::take(&mut state.reftable_dirty).into_iter().collect();
        let header = std::mem::take(&mut state.header_dirty);
        let slice = self.geometry.slice() as usize;
        let l1_at = state.header.l1_at;
        last.extend(l1.iter().map(|index| table_piece(&state.l1, l1_at, *index, slice)));
        let reftable_at = state.header.reftable_at;
        let piece = |index: &usize| table_piece(&state.reftable, reftable_at, *index, slice);
        let mut counts: Vec<Piece> = reftable.iter().map(piece).collect();
        if header {
            // The table has moved, and the new one is not in use yet: it is filled first.
            first.append(&mut counts);
            state.update_prologue();
            counts.push(Piece { at: 0, bytes: state.prologue.clone(), version: 0 });
        }
        let tables = state.new_tables.iter().copied().collect();
        Batch { number: state.begun, first, counts, last, tables, l1, reftable, header, mark }
    }

    async fn write_batch(&self, batch: &Batch) -> Outcome {
        self.write_pieces(&batch.first).await?;
        self.sync().await?;
        if !batch.counts.is_empty() {
            self.write_pieces(&batch.counts).await?;
            self.sync().await?;
        }
        if !batch.last.is_empty() {
            let state = &mut *self.state.borrow_mut();
            // From here on the file may refer to them.
            state.new_tables.retain(|table| !batch.tables.contains(table));
        }
        if !batch.last.is_empty() {
            self.write_pieces(&batch.last).await?;
            self.sync().await?;
        }
        Ok(())
    }

    /// Writes neighbours as one.
    async fn write_pieces(&self, pieces: &[Piece]) -> Outcome {
        let mut rest = pieces;
        while let Some(first) = rest.first() {
            let (mut bytes, mut count) = (first.bytes.clone(), 1);
            while let Some(next) = rest.get(count)
                && next.at == first.at + bytes.len() as u64
            {
                bytes.extend(&next.bytes);
                count += 1;
            }
            self.file.write(first.at, Heap::copy_of(&bytes).into()).await?;
            rest = &rest[count..];
        }
        Ok(())
    }

    async fn sync(&self) -> Outcome {
        if let Some(data) = &self.data {
            data.sync().await?;
        }
        self.file.sync().await
    }

    fn committed(&self, batch: Batch) {
        self.settle_batch(&batch);
        self.note_bitmaps();
        self.journal.forget(batch.mark);
    }

    fn settle_batch(&self, batch: &Batch) {
        let state = &mut *self.state.borrow_mut();
        let of_batch = |free: &Free| free.commit <= batch.number;
        let pieces = batch.first.iter().chain(&batch.last).filter(|piece| piece.version > 0);
        for piece in pieces {
            state.slices.wrote(piece.at, piece.version);
        }
        state.durable = batch.number;
        // What is counted in the file by now and not used yet, or not any more: a successor must know.
        for cluster in state.taken.iter().copied() {
            self.note(super::Record::Take { cluster });
        }
        // Younger ones are behind the mark themselves.
        for Free { cluster, number, .. } in state.frees.iter().copied().filter(of_batch) {
            self.note(super::Record::Free { cluster, number });
        }
    }

    fn not_committed(&self, batch: Batch) {
        let state = &mut *self.state.borrow_mut();
        state.l1_dirty.extend(batch.l1);
        state.reftable_dirty.extend(batch.reftable);
        state.header_dirty |= batch.header;
        self.unrecorded.set(true);
    }
}

impl State {
    fn has_changed(&self) -> bool {
        let tables = !self.l1_dirty.is_empty() || !self.reftable_dirty.is_empty();
        self.slices.count_dirty() > 0 || tables || self.header_dirty
    }

    /// Brings the header's bytes up to date.
    pub(super) fn update_prologue(&mut self) {
        let header = &self.header;
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = self.prologue.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(24, &header.size.to_be_bytes());
        put(36, &header.l1_entries.to_be_bytes());
        put(40, &header.l1_at.to_be_bytes());
        put(48, &header.reftable_at.to_be_bytes());
        put(56, &header.reftable_clusters.to_be_bytes());
        put(60, &header.snapshots.to_be_bytes());
        put(64, &header.snapshots_at.to_be_bytes());
        if header.version > 2 {
            put(72, &header.incompatible.to_be_bytes());
            put(80, &header.compatible.to_be_bytes());
            put(88, &header.autoclear.to_be_bytes());
        }
    }
}

/// A slice of a table of numbers that starts at `at`.
fn table_piece(numbers: &[u64], at: u64, index: usize, slice: usize) -> Piece {
    let from = index * slice / 8;
    let numbers = numbers.iter().skip(from).take(slice / 8);
    let mut bytes: Vec<u8> = numbers.flat_map(|number| number.to_be_bytes()).collect();
    bytes.resize(slice, 0);
    Piece { at: at + (index * slice) as u64, bytes, version: 0 }
}
