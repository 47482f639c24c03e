//! The snapshot table: how it is read, and written. What an entry has that nobody here knows is kept.

use crate::qcow2::OpenError;
use crate::qcow2::header::{Header, MOST_L1_BYTES};
use crate::qcow2::open::read_bytes;
use crate::storage::Storage;

/// Bytes of an entry without its texts.
const FIXED: usize = 40;

/// Bytes of extra data that are written: bytes of the machine's state, of the disk, instructions.
const EXTRA: u32 = 24;

/// Most bytes of the table: a hundred for each of as many as there can be. QEMU reads eight times as many.
const MOST_BYTES: u64 = 8 << 20;

/// Most bytes of an entry's extra data, as in QEMU.
const MOST_EXTRA: usize = 1024;

/// Longest entry that is read.
const LONGEST: u64 = (FIXED + MOST_EXTRA + 2 * 65536) as u64;

/// Bytes of the table that are read at a time.
const WINDOW: u64 = 2 * LONGEST;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Where its L1 table is.
    pub l1_at: u64,
    /// Entries of it.
    pub l1_entries: u32,
    /// Unique id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Seconds since 1970.
    pub seconds: u32,
    /// And nanoseconds.
    pub nanoseconds: u32,
    /// Nanoseconds that the guest had run.
    pub clock: u64,
    /// Bytes of the machine's state.
    pub state_bytes: u64,
    /// Bytes of the disk; `None`: as the disk is now.
    pub size: Option<u64>,
    /// Instructions that the guest had executed, where they were counted.
    pub icount: Option<u64>,
    /// Where the entry ends in the table.
    pub table_end: u64,
    /// The entry as it is there.
    entry: Vec<u8>,
}

impl Snapshot {
    /// A snapshot of a disk without a machine.
    pub(super) fn new(
        id: String,
        name: &str,
        (seconds, nanoseconds): (u32, u32),
        l1_at: u64,
        l1_entries: u32,
        size: u64,
    ) -> Self {
        let mut entry = Vec::new();
        entry.extend(l1_at.to_be_bytes());
        entry.extend(l1_entries.to_be_bytes());
        entry.extend((id.len() as u16).to_be_bytes());
        entry.extend((name.len() as u16).to_be_bytes());
        entry.extend(seconds.to_be_bytes());
        entry.extend(nanoseconds.to_be_bytes());
        // The machine's clock, and the bytes of its state.
        entry.extend([0; 8 + 4]);
        entry.extend(EXTRA.to_be_bytes());
        for number in [0, size, 0] {
            entry.extend(number.to_be_bytes());
        }
        entry.extend(id.as_bytes());
        entry.extend(name.as_bytes());
        let (size, icount, name) = (Some(size), Some(0), name.to_owned());
        let (clock, state_bytes, table_end) = (0, 0, 0);
        Self {
            l1_at,
            l1_entries,
            id,
            name,
            seconds,
            nanoseconds,
            clock,
            state_bytes,
            size,
            icount,
            table_end,
            entry,
        }
    }

    /// The same, which says how large the disk was, if it did not.
    pub(in crate::qcow2) fn with_size(mut self, size: u64) -> Self {
        if self.size.is_some() {
            return self;
        }
        let had = self.entry.get(36..FIXED).and_then(|bytes| bytes.try_into().ok());
        let had = u32::from_be_bytes(had.unwrap_or_default()) as usize;
        let mut extra = self.state_bytes.to_be_bytes().to_vec();
        extra.extend(size.to_be_bytes());
        if let Some(place) = self.entry.get_mut(36..FIXED) {
            place.copy_from_slice(&(extra.len() as u32).to_be_bytes());
        }
        self.entry.splice(FIXED..FIXED + had, extra);
        self.size = Some(size);
        self
    }

    /// The table's bytes; `None` if there are too many.
    pub(super) fn write_all(snapshots: &[Self]) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for snapshot in snapshots {
            bytes.extend(&snapshot.entry);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        (bytes.len() as u64 <= MOST_BYTES).then_some(bytes)
    }

    /// Reads the table.
    pub(in crate::qcow2) async fn read_all<S: Storage>(
        file: &S,
        header: &Header,
        file_size: u64,
    ) -> Result<Vec<Self>, OpenError> {
        if header.snapshots == 0 {
            return Ok(Vec::new());
        }
        let there = file_size.saturating_sub(header.snapshots_at).min(MOST_BYTES);
        let mut snapshots: Vec<Self> = Vec::new();
        // A window at a time: the table does not say how long it is.
        let (mut window, mut begins) = (Vec::new(), 0);
        for _ in 0..header.snapshots {
            let at = snapshots.last().map_or(0, |last| last.table_end);
            let ends = begins + window.len() as u64;
            if ends < (at + LONGEST).min(there) {
                let len = there.saturating_sub(at).min(WINDOW) as usize;
                (window, begins) = (read_window(file, header.snapshots_at + at, len).await?, at);
            }
            let entry = window.get((at - begins) as usize..).unwrap_or_default();
            snapshots.push(Self::read(entry, at)?);
        }
        Ok(snapshots)
    }

    fn read(bytes: &[u8], at: u64) -> Result<Self, OpenError> {
        let wrong =
            |what: &str| OpenError::Header(format!("a snapshot at {at:#x} of its table: {what}"));
        if bytes.len() < FIXED {
            return Err(wrong("the table ends within it"));
        }
        let number = |from: usize, len: usize| {
            let bytes = bytes.get(from..from + len).unwrap_or_default();
            bytes.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte))
        };
        let (l1_at, l1_entries) = (number(0, 8), number(8, 4) as u32);
        let (id_len, name_len) = (number(12, 2) as usize, number(14, 2) as usize);
        let extra = number(36, 4) as usize;
        if extra > MOST_EXTRA {
            return Err(wrong("too much extra data"));
        }
        if u64::from(l1_entries) * 8 > MOST_L1_BYTES || !l1_at.is_multiple_of(512) {
            return Err(wrong("its L1 table"));
        }
        let names = FIXED + extra;
        let end = names + id_len + name_len;
        let text = |from: usize, len: usize| {
            let bytes = bytes.get(from..from + len).ok_or_else(|| wrong("its name"))?;
            Ok::<_, OpenError>(String::from_utf8_lossy(bytes).into_owned())
        };
        let small_state = number(32, 4);
        Ok(Self {
            l1_at,
            l1_entries,
            id: text(names, id_len)?,
            name: text(names + id_len, name_len)?,
            seconds: number(16, 4) as u32,
            nanoseconds: number(20, 4) as u32,
            clock: number(24, 8),
            state_bytes: if extra >= 8 { number(FIXED, 8) } else { small_state },
            size: (extra >= 16).then(|| number(FIXED + 8, 8)),
            icount: (extra >= 24)
                .then(|| number(FIXED + 16, 8))
                .filter(|icount| *icount != u64::MAX),
            entry: bytes.get(..end).unwrap_or_default().to_vec(),
            table_end: at + end.next_multiple_of(8) as u64,
        })
    }
}

/// `len` bytes at any place, read from the page before it.
async fn read_window<S: Storage>(file: &S, at: u64, len: usize) -> Result<Vec<u8>, OpenError> {
    let skip = (at % 4096) as usize;
    let mut bytes = read_bytes(file, at - skip as u64, skip + len).await?;
    Ok(bytes.split_off(skip.min(bytes.len())))
}
