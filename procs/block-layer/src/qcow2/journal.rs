//! What outlives the process: changes of metadata that no commit has written yet.
//!
//! Metadata is written late, so that one pair of barriers serves many requests. A request is answered
//! once its data is in the file and its change of metadata is in memory *and in the journal*. The
//! journal is a memfd that the supervisor keeps: if this process is killed, its successor opens the
//! image as the last commit left it and [replays](super::Qcow2::replay) the rest. After a crash of the
//! host the journal is gone, and with it what no flush has covered; the image is that of the last commit.
//!
//! Law: every record says how something *is* now, not by how much it changed. Replaying records that a
//! commit had half written is harmless.

/// How something is now. Places are offsets in the file, clusters are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// The refcount of a cluster.
    Count {
        /// Number of the cluster.
        cluster: u64,
        /// Its count.
        count: u64,
    },
    /// A free cluster was given out. Until a record says for what, it is nobody's.
    Take {
        /// Number of the cluster.
        cluster: u64,
    },
    /// The refcount table has a block.
    Block {
        /// Index into the table.
        index: u64,
        /// Where the block is.
        at: u64,
    },
    /// The L1 table has an L2 table.
    Table {
        /// Index into the L1 table.
        index: u64,
        /// Where the L2 table is.
        at: u64,
    },
    /// The L2 entry of a guest cluster.
    Entry {
        /// Number of the guest cluster.
        cluster: u64,
        /// Its descriptor.
        descriptor: u64,
        /// Its bitmap of subclusters.
        bitmap: u64,
    },
    /// A use of a cluster ends with the next commit.
    Free {
        /// Number of the cluster.
        cluster: u64,
        /// Number of the use: a cluster may have several, and a record may be there twice.
        number: u64,
    },
    /// A bitmap was right when it was read, though it is marked as in use.
    Consistent {
        /// Where its directory is.
        directory: u64,
        /// Its number there.
        bitmap: u64,
    },
    /// A range of a bitmap was set since.
    Dirty {
        /// Where its directory is.
        directory: u64,
        /// Its number there.
        bitmap: u64,
        /// First byte of the disk.
        at: u64,
        /// Bytes.
        len: u64,
    },
}

/// Where records are kept.
pub trait Journal: std::fmt::Debug {
    /// Adds a record; `false` if there is no room for it.
    fn append(&self, record: Record) -> bool;

    /// Whether it is so full that a commit should come before the next change.
    fn is_crowded(&self) -> bool;

    /// The place behind the last record.
    fn mark(&self) -> u64;

    /// Forgets the records before `mark`.
    fn forget(&self, mark: u64);

    /// The records, oldest first.
    fn records(&self) -> Vec<Record>;
}

/// The journal of a tool: a killed tool leaves the image as its last commit did.
#[derive(Debug)]
pub struct Nothing;

impl Journal for Nothing {
    fn append(&self, _: Record) -> bool {
        true
    }

    fn is_crowded(&self) -> bool {
        false
    }

    fn mark(&self) -> u64 {
        0
    }

    fn forget(&self, _: u64) {}

    fn records(&self) -> Vec<Record> {
        Vec::new()
    }
}

/// A journal in memory, for tests of the replay. Clones are the same journal.
#[derive(Debug, Clone, Default)]
pub struct Remembered(std::rc::Rc<std::cell::RefCell<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    /// Number of the first record.
    first: u64,
    records: Vec<Record>,
    is_late: bool,
    /// What is forgotten late.
    late: u64,
}

impl Remembered {
    /// One that forgets whatever it is told to a commit later: as if every commit were killed the moment
    /// before.
    pub fn forgetting_late() -> Self {
        let pages = Pages { is_late: true, ..Pages::default() };
        Self(std::rc::Rc::new(std::cell::RefCell::new(pages)))
    }
}

impl Journal for Remembered {
    fn append(&self, record: Record) -> bool {
        self.0.borrow_mut().records.push(record);
        true
    }

    fn is_crowded(&self) -> bool {
        false
    }

    fn mark(&self) -> u64 {
        let pages = self.0.borrow();
        pages.first + pages.records.len() as u64
    }

    fn forget(&self, mark: u64) {
        let pages = &mut *self.0.borrow_mut();
        let mark = if pages.is_late { std::mem::replace(&mut pages.late, mark) } else { mark };
        let mark = mark.max(pages.first);
        pages.records.drain(..(mark - pages.first) as usize);
        pages.first = mark;
    }

    fn records(&self) -> Vec<Record> {
        self.0.borrow().records.clone()
    }
}
