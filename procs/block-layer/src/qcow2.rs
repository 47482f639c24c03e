//! qcow2 images, versions 2 and 3, as QEMU's `docs/interop/qcow2.txt` defines them.
//!
//! An image is a two-level table from guest clusters to clusters of the file ([`tables`], [`entry`]),
//! counts of how often each cluster of the file is used ([`refcount`], [`count`]), and a header that says
//! where those are ([`header`]). What is not in the image is in its backing file, a [`Layer`] of its own.
//!
//! ```text
//! read ──▶ extent ──▶ storage                      (Data, Zero, Backing, Compressed)
//! write ─▶ extent ──▶ storage                      (a cluster of its own: in place)
//!             └─────▶ allocate ─▶ fill ─▶ storage ─▶ put entry ─▶ journal
//! flush ─▶ commit: counts │ tables                 (│ is a barrier)
//! ```
//!
//! Law:
//! - **Order.** Changed tables and counts stay in memory until a [`commit`] writes them: first counts and
//!   what nobody refers to yet, then a barrier that covers the data as well, then what refers to it, then
//!   a barrier. So whatever part of the writes survives a crash of the host, nothing refers to a cluster
//!   that is not counted or not filled. At worst clusters are counted that nobody uses.
//! - **Death.** What is in memory only is in the [`journal`] too, before the request is answered.
//! - **Reuse.** A cluster that something stops using is free again after the commit that made it so, and
//!   after every operation that began before: none of those can still read or write it.
//! - **Overlap.** No write goes to a cluster that holds metadata of another kind ([`claims`]).
//! - **Change.** What changes much at once is written beside what is in force, and comes into force by one
//!   sector ([`shadow`]).
//! - The state is never borrowed across an `await`. Guest clusters that are to get another place are held
//!   ([`RangeLock`]); clusters written in place are not.
//!
//! Absent on purpose: opening files. Backing and data files come as storage; names are text to compare.
//! Absent for now: encryption.

pub mod amend;
mod backing;
pub mod bitmaps;
pub mod check;
mod claims;
mod commit;
mod compress;
mod count;
pub mod create;
mod encryption;
mod entry;
mod geometry;
pub mod header;
pub mod info;
pub mod journal;
mod layer;
pub mod map;
mod open;
mod read;
mod refcount;
mod replay;
mod resize;
mod room;
mod shadow;
mod slices;
pub mod snapshots;
mod switch;
mod tables;
mod turns;
mod write;
mod zero;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::rc::Rc;

use crate::luks::Cipher;
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;
use crate::task::RangeLock;

use claims::Claims;
use entry::{Granules, Mapping};
use geometry::Geometry;
use header::Header;
use journal::{Journal, Record};
use slices::Slices;
use turns::Turns;

pub use bitmaps::{BitmapError, Tracked};
pub use compress::Packer;
pub use header::extensions::Encryption;
pub use layer::{Held, Layer, LuksLayer, Piece, RawLayer};
pub use open::{Files, OpenError, Options};
pub use snapshots::{Snapshot, SnapshotError};

/// An open image.
#[derive(Debug)]
pub struct Qcow2<S> {
    file: S,
    /// Where guest data is, if not in `file`.
    data: Option<S>,
    backing: RefCell<Option<Layer<S>>>,
    journal: Box<dyn Journal>,
    geometry: Geometry,
    version: u32,
    options: Options,
    state: RefCell<State>,
    /// Guest clusters whose entries change.
    clusters: RangeLock,
    /// L2 tables that are being made, by index into the L1 table.
    making: RangeLock,
    /// Refcount blocks and tables that are being made.
    structure: RangeLock,
    /// The file becomes longer.
    making_room: RangeLock,
    /// Commits come one after the other.
    commits: RangeLock,
    /// So do changes of the whole image.
    changes: RangeLock,
    turns: Turns,
    bitmaps: RefCell<Vec<Rc<Tracked>>>,
    /// They went to the file; a change would make them wrong there.
    shut: Cell<bool>,
    /// What was decompressed last: descriptor and bytes.
    unpacked: RefCell<Option<(u64, Rc<[u8]>)>>,
    /// A record found no room: no answer before the next commit.
    unrecorded: Cell<bool>,
    /// Changes come from the journal and need not go there.
    replaying: Cell<bool>,
    /// The key of an encrypted image, once it is known.
    cipher: OnceCell<Rc<Cipher>>,
    /// Where the next compressed cluster goes: in the rest of a cluster that the last one began.
    packing: Cell<Option<u64>>,
}

#[derive(Debug)]
struct State {
    header: Header,
    /// The start of the file, as far as the header reaches: what is written when the header changes.
    prologue: Vec<u8>,
    header_dirty: bool,
    l1: Vec<u64>,
    /// Slices of the L1 table that have changed.
    l1_dirty: BTreeSet<usize>,
    reftable: Vec<u64>,
    reftable_dirty: BTreeSet<usize>,
    /// While the refcount table moves: its first block that is new.
    growing: Option<u64>,
    /// L2 tables to which the L1 table in the file does not refer yet.
    new_tables: HashSet<u64>,
    slices: Slices,
    claims: Claims,
    snapshots: Vec<Snapshot>,
    /// All clusters of the file below this one are in use.
    hint: u64,
    /// Host offset from which on the file has never been written, so that it reads as zeroes.
    fresh: u64,
    /// The file has room up to there.
    room: u64,
    /// Clusters that were given out and are not entered anywhere yet.
    taken: BTreeSet<u64>,
    /// Uses that have ended, oldest first.
    frees: VecDeque<Free>,
    /// The number of the next one.
    next_free: u64,
    /// Commits begun, and the last one that succeeded.
    begun: u64,
    durable: u64,
    /// Operations begun and not over: the first one's number, and which of those from it on are over.
    first_op: u64,
    ops: VecDeque<bool>,
    /// What was found to be wrong first. Nothing is written any more.
    damage: Option<String>,
}

/// A use of a cluster that has ended.
#[derive(Debug, Clone, Copy)]
struct Free {
    cluster: u64,
    /// Which of all uses that have ended: a record of it that is there twice is one.
    number: u64,
    /// The commit after which the file says so.
    commit: u64,
    /// Operations from this one on have not seen the use.
    op: u64,
}

impl<S: Storage> Qcow2<S> {
    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.state.borrow().header.size
    }

    /// Bytes of a cluster.
    pub fn cluster_size(&self) -> u64 {
        self.geometry.cluster()
    }

    /// What the header says.
    pub fn header(&self) -> Header {
        self.state.borrow().header.clone()
    }

    /// Its file.
    pub fn file(&self) -> &S {
        &self.file
    }

    /// What was found to be wrong with the image since it was opened.
    pub fn damage(&self) -> Option<String> {
        self.state.borrow().damage.clone()
    }

    /// The image contradicts itself or the specification. From now on it is not written.
    fn damaged(&self, what: impl Into<String>) -> Failure {
        self.state.borrow_mut().damage.get_or_insert_with(|| what.into());
        Failure::IO
    }

    fn writable(&self) -> Outcome {
        if self.options.read_only {
            return Err(Failure::READ_ONLY);
        }
        match self.state.borrow().damage {
            Some(_) => Err(Failure::IO),
            None => Ok(()),
        }
    }

    /// Refuses to write guest data, or metadata of no kind, over metadata.
    fn guard(&self, at: u64, len: u64) -> Outcome {
        let first = at >> self.geometry.cluster_bits;
        let last = (at + len.max(1) - 1) >> self.geometry.cluster_bits;
        let claimed = self.state.borrow().claims.of(first, last - first + 1);
        match claimed {
            None => Ok(()),
            Some((_, claim)) => Err(self.damaged(format!("guest data at {at:#x} lies in {claim}"))),
        }
    }

    /// Remembers a change for a successor.
    fn note(&self, record: Record) {
        if !self.replaying.get() && !self.journal.append(record) {
            self.unrecorded.set(true);
        }
    }

    /// A cluster that was given out is in use by now, or given back.
    fn settled(&self, state: &mut State, first: u64, count: u64) {
        for cluster in first..first + count {
            state.taken.remove(&cluster);
        }
    }

    /// Whether it has bitmaps that say what they mean.
    fn has_bitmaps(&self) -> bool {
        self.state.borrow().header.has_bitmaps()
    }

    fn is_external(&self) -> bool {
        self.data.is_some()
    }

    /// Where guest data is.
    pub fn guest_data(&self) -> &S {
        self.data.as_ref().unwrap_or(&self.file)
    }
}

#[cfg(test)]
pub(crate) mod tests;
