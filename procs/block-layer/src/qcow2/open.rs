//! Opening: the header, the tables that stay in memory, and every reason to refuse.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeSet, HashSet, VecDeque};

use super::bitmaps::Inherited;
use super::check::Repair;
use super::claims::{Claim, Claims};
use super::geometry::OFFSET;
use super::header::{Header, PROLOGUE, autoclear, incompatible};
use super::journal::{Journal, Record};
use super::slices::Slices;
use super::turns::Turns;
use super::{Layer, Qcow2, Snapshot, State};
use crate::memory::Heap;
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;
use crate::task::RangeLock;

/// Usual bytes of tables and counts in memory: they map 32 GiB of clusters of 64 KiB.
const CACHE: u64 = 4 << 20;

/// Slices that are always in memory: enough for one operation.
const LEAST: u64 = 64;

/// Most clusters of a dirty image that is repaired in passing, while its guest waits: 1 TiB of clusters of 64 KiB.
const MOST_REPAIRED: u64 = 1 << 24;

/// Bytes of a table that are read at a time.
const WINDOW: usize = 256 * 1024;

/// Why an image cannot be opened. All but `Host` blame the image or what was said of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another format.
    #[error("the image is not in qcow2 format")]
    Format,
    /// A version nobody here knows.
    #[error("the image is qcow2 version {0}; versions 2 and 3 are served")]
    Version(u32),
    /// The header contradicts the specification.
    #[error("the image's header is wrong: {0}")]
    Header(String),
    /// Its tables are not there.
    #[error("the image is truncated: its file ends at {0}, and its tables begin at {1}")]
    Truncated(u64, u64),
    /// Bits nobody here knows.
    #[error("the image has features that are not known here: {0}")]
    Feature(String),
    /// An encrypted image, and no key.
    #[error("the image is encrypted, and no passphrase was given for it")]
    Encrypted,
    /// Encryption of version 1.
    #[error(
        "the image is encrypted in the old way (AES), which is not safe; convert it to LUKS: qemu-img convert"
    )]
    OldEncryption,
    /// A key for what needs none.
    #[error("the image is not encrypted, but a passphrase was given")]
    SurplusKey,
    /// A compression nobody here knows.
    #[error("the image has compression type {0}; 0 (zlib) and 1 (zstd) are served")]
    Compression(u8),
    /// The dirty bit.
    #[error(
        "the image was not closed, and not everything in it could be repaired; repair it: bulkhead-img check -r all"
    )]
    Dirty,
    /// The corrupt bit.
    #[error(
        "the image is marked corrupt; open it read-only, or repair it: bulkhead-img check -r all"
    )]
    Corrupt,
    /// Two tables in one place.
    #[error(
        "the image is corrupt: {0}; open it read-only, or repair it: bulkhead-img check -r all"
    )]
    Overlap(String),
    /// Persistent bitmaps.
    #[error("the image's bitmaps are wrong: {0}; repair it: bulkhead-img check -r all")]
    Bitmaps(String),
    /// The header names a backing file and none was given.
    #[error("the image has the backing file '{0}', which was not given")]
    NoBacking(String),
    /// A backing file was given and the header names none.
    #[error("the image has no backing file, but one was given")]
    SurplusBacking,
    /// The header wants a data file and none was given.
    #[error("the image has its data in another file{0}, which was not given")]
    NoData(String),
    /// A data file was given and the image has its data itself.
    #[error("the image has no external data file, but one was given")]
    SurplusData,
    /// The host refused.
    #[error("the image cannot be read: {0}")]
    Host(#[from] Failure),
}

/// The files of an image.
#[derive(Debug)]
pub struct Files<S> {
    /// The image.
    pub file: S,
    /// Its external data file.
    pub data: Option<S>,
    /// Its backing file, open.
    pub backing: Option<Layer<S>>,
}

/// How it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Nothing is written.
    pub read_only: bool,
    /// Clusters that become free are given back to the host.
    pub discard: bool,
    /// Open it although it is dirty, corrupt or has bitmaps: for repair, which trusts nothing.
    pub repair: bool,
    /// Bytes of tables and counts in memory.
    pub cache: u64,
    /// Files that the header names may be missing: for questions about the image alone.
    pub alone: bool,
    /// A key follows, by [`Qcow2::set_cipher`], before guest data is read or written.
    pub encrypted: bool,
    /// The backing file is the one that was given, or none if none was, whatever the header names: whoever
    /// gives them has written down the chain, and the header may be a change behind.
    pub chain_given: bool,
}

impl Options {
    /// For readers.
    pub const READ: Self = Self {
        read_only: true,
        discard: false,
        repair: false,
        cache: CACHE,
        alone: false,
        encrypted: false,
        chain_given: false,
    };
    /// For writers.
    pub const WRITE: Self = Self { read_only: false, discard: true, ..Self::READ };
    /// For questions about the image alone.
    pub const LOOK: Self = Self { alone: true, ..Self::READ };
}

impl<S: Storage> Qcow2<S> {
    /// Opens an image, and takes over what the journal has of a predecessor.
    pub async fn open(
        files: Files<S>,
        journal: Box<dyn Journal>,
        options: Options,
    ) -> Result<Self, OpenError> {
        let wanted = options;
        let Files { file, data, backing } = files;
        // One that was not closed is repaired before anything of it is believed, as QEMU does.
        let dirty = !options.read_only && !options.repair && is_dirty(&file).await?;
        let options = Options { repair: options.repair || dirty, ..options };
        let state = State::read(&file, options).await?;
        refuse_key(&state.header, options)?;
        refuse_files(&state.header, data.is_some(), backing.is_some(), options)?;
        let mut image = Self {
            file,
            data,
            backing: RefCell::new(backing),
            journal,
            geometry: state.header.geometry,
            version: state.header.version,
            options,
            state: RefCell::new(state),
            clusters: RangeLock::default(),
            making: RangeLock::default(),
            making_room: RangeLock::default(),
            structure: RangeLock::default(),
            commits: RangeLock::default(),
            changes: RangeLock::default(),
            turns: Turns::default(),
            bitmaps: RefCell::default(),
            shut: Cell::new(false),
            unpacked: RefCell::new(None),
            unrecorded: Cell::new(false),
            replaying: Cell::new(false),
            cipher: OnceCell::new(),
            packing: Cell::new(None),
        };
        let records = image.journal.records();
        if dirty {
            image.repair_dirty(&records, wanted).await?;
        }
        let options = wanted;
        if !options.read_only {
            image.replay(&records).await?;
        }
        if !options.repair {
            image.load_bitmaps(&Inherited::of(&records)).await?;
        }
        Ok(image)
    }

    async fn repair_dirty(&mut self, records: &[Record], wanted: Options) -> Result<(), OpenError> {
        // Nobody here leaves an image dirty: who did so with changes in the journal lies.
        if !records.is_empty() {
            return Err(OpenError::Dirty);
        }
        match self.check_at_most(Repair::All, MOST_REPAIRED).await {
            Ok(report) if report.corruptions == 0 => {}
            Ok(_) | Err(Failure::TOO_LARGE) => return Err(OpenError::Dirty),
            Err(failure) => return Err(failure.into()),
        }
        self.options = wanted;
        Ok(self.reload().await?)
    }

    /// Reads everything anew from the file, which says all there is to say. Nobody uses the image
    /// meanwhile.
    pub(super) async fn reload(&self) -> Outcome {
        let fresh = State::read(&self.file, self.options).await.map_err(|error| match error {
            OpenError::Host(failure) => failure,
            error => self.damaged(error.to_string()),
        })?;
        self.packing.take();
        self.unpacked.borrow_mut().take();
        let mut state = self.state.borrow_mut();
        let old = std::mem::replace(&mut *state, fresh);
        // These count on.
        (state.begun, state.durable, state.first_op) = (old.begun, old.durable, old.first_op);
        state.next_free = old.next_free;
        // Room that was made is no use.
        state.fresh = old.fresh;
        state.slices.succeed(&old.slices);
        state.damage = old.damage;
        drop(state);
        self.claim_bitmaps().map_err(|error| self.damaged(error.to_string()))
    }
}

impl State {
    /// Reads what stays in memory.
    async fn read<S: Storage>(file: &S, options: Options) -> Result<Self, OpenError> {
        let file_size = file.size()?;
        let bytes = read_bytes(file, 0, PROLOGUE.min(file_size as usize)).await?;
        let header = Header::read(&bytes)?;
        refuse_state(&header, options)?;
        refuse_truncated(&header, file_size, options)?;
        let geometry = header.geometry;
        let entries = header.l1_entries as usize;
        let l1 = read_numbers(file, header.l1_at, entries, file_size).await?;
        let entries = ((header.reftable_clusters as u64) << geometry.cluster_bits) / 8;
        let reftable = read_numbers(file, header.reftable_at, entries as usize, file_size).await?;
        let snapshots = Snapshot::read_all(file, &header, file_size).await?;
        let mut prologue = bytes;
        let unknown = header.autoclear & !autoclear::KNOWN != 0;
        let mut header = header;
        header.autoclear &= autoclear::KNOWN;
        prologue.resize(geometry.slice() as usize, 0);
        let cluster = geometry.cluster();
        let mut state = Self {
            prologue,
            // Bits that say something about others' data are cleared by whoever does not know it.
            header_dirty: unknown && !options.read_only,
            l1,
            l1_dirty: BTreeSet::new(),
            reftable,
            reftable_dirty: BTreeSet::new(),
            growing: None,
            new_tables: HashSet::new(),
            slices: Slices::new((options.cache / geometry.slice()).max(LEAST) as usize),
            claims: Claims::default(),
            snapshots,
            hint: 0,
            fresh: match file.grows() {
                true => file_size.next_multiple_of(cluster),
                false => u64::MAX,
            },
            room: file_size,
            taken: BTreeSet::new(),
            frees: VecDeque::new(),
            next_free: 0,
            begun: 0,
            durable: 0,
            first_op: 0,
            ops: VecDeque::new(),
            damage: None,
            header,
        };
        if !options.read_only && !options.repair {
            claim(&mut state, file_size)?;
        }
        Ok(state)
    }
}

async fn is_dirty<S: Storage>(file: &S) -> Result<bool, OpenError> {
    let len = PROLOGUE.min(file.size()? as usize);
    let header = Header::read(&read_bytes(file, 0, len).await?)?;
    Ok(header.has(incompatible::DIRTY) && !header.has(incompatible::CORRUPT))
}

fn refuse_state(header: &Header, options: Options) -> Result<(), OpenError> {
    if options.read_only || options.repair {
        return Ok(());
    }
    if header.has(incompatible::CORRUPT) {
        return Err(OpenError::Corrupt);
    }
    if header.has(incompatible::DIRTY) {
        return Err(OpenError::Dirty);
    }
    Ok(())
}

/// Whoever asks about an image, or repairs it, needs no guest data and so no key.
fn refuse_key(header: &Header, options: Options) -> Result<(), OpenError> {
    let needs_none = options.alone || options.repair;
    match (header.extensions.encryption, options.encrypted) {
        (Some(_), false) if !needs_none => Err(OpenError::Encrypted),
        (None, true) => Err(OpenError::SurplusKey),
        _ => Ok(()),
    }
}

fn refuse_files(
    header: &Header,
    data: bool,
    backing: bool,
    options: Options,
) -> Result<(), OpenError> {
    match &header.backing {
        _ if options.chain_given => {}
        Some(name) if !backing && !options.alone => return Err(OpenError::NoBacking(name.clone())),
        None if backing => return Err(OpenError::SurplusBacking),
        _ => {}
    }
    match (header.has_data_file(), data) {
        (true, false) if !options.alone => {
            let name = header.extensions.data_file.as_ref();
            Err(OpenError::NoData(name.map_or(String::new(), |name| format!(" ('{name}')"))))
        }
        (false, true) => Err(OpenError::SurplusData),
        _ => Ok(()),
    }
}

/// Claims everything that is known of the metadata. What lies outside of the file claims nothing: it is
/// found out when it is used.
fn claim(state: &mut State, file_size: u64) -> Result<(), OpenError> {
    let State { header, l1, reftable, snapshots, claims, .. } = state;
    let geometry = header.geometry;
    let mut add = |name: &str, at: u64, bytes: u64, claim: Claim| {
        if at >= file_size {
            return Ok(());
        }
        if !geometry.is_start(at) {
            return Err(OpenError::Overlap(format!("{name} at {at:#x} is not aligned")));
        }
        let first = at >> geometry.cluster_bits;
        claims.add(first, bytes.min(file_size - at).div_ceil(geometry.cluster()), claim).map_err(
            |(cluster, other)| {
                let at = cluster << geometry.cluster_bits;
                OpenError::Overlap(format!("{name} at {at:#x} lies in {other}"))
            },
        )
    };
    add("the header", 0, geometry.cluster(), Claim::Header)?;
    add("the L1 table", header.l1_at, u64::from(header.l1_entries) * 8, Claim::L1)?;
    let bytes = u64::from(header.reftable_clusters) << geometry.cluster_bits;
    add("the refcount table", header.reftable_at, bytes, Claim::Reftable)?;
    for at in reftable.iter().map(|entry| entry & !511).filter(|at| *at != 0) {
        add("a refcount block", at, geometry.cluster(), Claim::Block)?;
    }
    for at in l1.iter().map(|entry| entry & OFFSET).filter(|at| *at != 0) {
        add("an L2 table", at, geometry.cluster(), Claim::Table)?;
    }
    if let Some(bytes) = snapshots.last().map(|last| last.table_end) {
        add("the snapshot table", header.snapshots_at, bytes, Claim::Snapshots)?;
    }
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.l1_entries > 0) {
        let bytes = u64::from(snapshot.l1_entries) * 8;
        add("a snapshot's L1 table", snapshot.l1_at, bytes, Claim::SnapshotL1)?;
    }
    if let Some(encryption) = header.extensions.encryption {
        add("the encryption header", encryption.at, encryption.bytes, Claim::Encryption)?;
    }
    if let Some(bitmaps) = header.extensions.bitmaps.filter(|_| header.has_bitmaps()) {
        let bytes = bitmaps.directory_bytes;
        add("the bitmap directory", bitmaps.directory_at, bytes, Claim::Bitmaps)?;
    }
    Ok(())
}

/// Bytes of a file; zeroes beyond its end.
pub(super) async fn read_bytes<S: Storage>(
    file: &S,
    at: u64,
    len: usize,
) -> Result<Vec<u8>, Failure> {
    // Whole pages, as direct I/O wants them.
    let heap = Heap::zeroes(len.next_multiple_of(4096));
    file.read(at, heap.clone().into()).await?;
    let mut bytes = heap.to_vec();
    bytes.truncate(len);
    Ok(bytes)
}

/// Its tables would read as zeroes, and so would the disk.
fn refuse_truncated(header: &Header, file_size: u64, options: Options) -> Result<(), OpenError> {
    let tables = [(header.l1_at, header.l1_entries as u64), (header.reftable_at, 1)];
    let mut begins = tables.into_iter().filter(|(_, len)| *len > 0).map(|(begin, _)| begin);
    match begins.find(|begin| *begin >= file_size) {
        Some(begin) if !options.repair => Err(OpenError::Truncated(file_size, begin)),
        _ => Ok(()),
    }
}

/// Big-endian numbers; those beyond the file's end are zeroes and cost no reading.
pub(super) async fn read_numbers<S: Storage>(
    file: &S,
    at: u64,
    count: usize,
    file_size: u64,
) -> Result<Vec<u64>, Failure> {
    let there = file_size.saturating_sub(at).min(count as u64 * 8);
    // Made of zeroes: pages that nothing is put into cost no memory.
    let mut numbers = vec![0; count];
    for begin in (0..there).step_by(WINDOW) {
        let bytes = read_bytes(file, at + begin, WINDOW.min((there - begin) as usize)).await?;
        let numbers = numbers.iter_mut().skip(begin as usize / 8);
        for (number, bytes) in numbers.zip(bytes.chunks_exact(8)) {
            match bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)) {
                0 => {}
                other => *number = other,
            }
        }
    }
    Ok(numbers)
}
