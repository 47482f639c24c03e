//! Which clusters hold metadata, so that nothing else is ever written there.
//!
//! A broken refcount or a forged entry makes two things of one cluster. Data must then not land in a
//! table: every write asks here first, in memory, always. QEMU has the same checks as an option.

use std::collections::HashMap;

/// What a cluster holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The header and its extensions.
    Header,
    /// The L1 table.
    L1,
    /// The L1 table of a snapshot.
    SnapshotL1,
    /// The snapshot table.
    Snapshots,
    /// The refcount table.
    Reftable,
    /// A refcount block.
    Block,
    /// An L2 table.
    Table,
    /// The directory of bitmaps.
    Bitmaps,
    /// The header of its encryption.
    Encryption,
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header => "its header",
            Self::L1 => "its L1 table",
            Self::SnapshotL1 => "a snapshot's L1 table",
            Self::Snapshots => "its snapshot table",
            Self::Reftable => "its refcount table",
            Self::Block => "a refcount block",
            Self::Table => "an L2 table",
            Self::Bitmaps => "its bitmaps",
            Self::Encryption => "its encryption header",
        })
    }
}

/// See the module. Clusters by number.
#[derive(Debug, Default)]
pub struct Claims(HashMap<u64, Claim>);

impl Claims {
    /// Claims `count` clusters; the first that somebody else has, with what it holds.
    pub fn add(&mut self, first: u64, count: u64, claim: Claim) -> Result<(), (u64, Claim)> {
        for cluster in first..first + count {
            if let Some(other) = self.0.insert(cluster, claim) {
                return Err((cluster, other));
            }
        }
        Ok(())
    }

    /// Gives clusters back.
    pub fn remove(&mut self, first: u64, count: u64) {
        for cluster in first..first + count {
            self.0.remove(&cluster);
        }
    }

    /// What the first claimed of `count` clusters holds.
    pub fn of(&self, first: u64, count: u64) -> Option<(u64, Claim)> {
        (first..first + count).find_map(|cluster| Some((cluster, *self.0.get(&cluster)?)))
    }
}
