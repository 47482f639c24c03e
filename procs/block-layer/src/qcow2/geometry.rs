//! The sizes of an image: how its bytes are divided into clusters, tables and counts.

/// Bits of a host offset that entries of L1, L2 and refcount tables carry.
pub const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// Offsets at or above this do not exist: entries have 56 bits for them.
pub const END_OF_OFFSETS: u64 = 1 << 56;

/// Most bytes that are read or written as one piece of metadata.
const SLICE: u64 = 4096;

/// Granules of a cluster with extended L2 entries.
const SUBCLUSTERS: u32 = 32;

/// See the module. Made from a checked header only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Cluster size is two to this power, 9 to 21.
    pub cluster_bits: u32,
    /// A refcount has two to this power bits, 0 to 6.
    pub refcount_order: u32,
    /// L2 entries carry a bitmap of subclusters.
    pub extended: bool,
}

impl Geometry {
    /// Bytes of a cluster.
    pub fn cluster(self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of an L2 entry.
    pub fn entry(self) -> u64 {
        if self.extended { 16 } else { 8 }
    }

    /// Entries of an L2 table.
    pub fn entries(self) -> u64 {
        self.cluster() / self.entry()
    }

    /// Guest bytes that one L2 table maps.
    pub fn table_span(self) -> u64 {
        self.entries() * self.cluster()
    }

    /// Parts of a cluster that can be mapped separately.
    pub fn granules(self) -> u32 {
        if self.extended { SUBCLUSTERS } else { 1 }
    }

    /// Bytes of such a part.
    pub fn granule(self) -> u64 {
        self.cluster() / u64::from(self.granules())
    }

    /// Counts of a refcount block.
    pub fn counts(self) -> u64 {
        (self.cluster() * 8) >> self.refcount_order
    }

    /// Highest refcount.
    pub fn most(self) -> u64 {
        u64::MAX >> (64 - (1u32 << self.refcount_order))
    }

    /// Bytes of a piece of metadata as it is cached and written.
    pub fn slice(self) -> u64 {
        self.cluster().min(SLICE)
    }

    /// Entries an L1 table needs for a disk of `size` bytes.
    pub fn l1_entries(self, size: u64) -> u64 {
        size.div_ceil(self.table_span())
    }

    /// The start of the cluster in which `at` lies.
    pub fn start(self, at: u64) -> u64 {
        at & !(self.cluster() - 1)
    }

    /// Whether `at` is the start of a cluster.
    pub fn is_start(self, at: u64) -> bool {
        at.is_multiple_of(self.cluster())
    }
}
