//! Layers: what a disk consists of, one on the other, and the files that become new ones.

use serde::{Deserialize, Serialize};

use super::remote::RemotePlan;
use crate::spec::{CacheMode, Part};

/// A layer of a disk, numbered by the supervisor, never used twice for another file of the same disk.
pub type LayerNumber = u32;

/// A layer's number and name. The name is text for the header of the layer above; nobody opens it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedLayer {
    /// Its number.
    pub layer: LayerNumber,
    /// Its path.
    pub name: String,
    /// Its format.
    pub format: LayerFormat,
}

/// A file that a job or a snapshot writes. Descriptors: the file, opened and locked for writing; if it is
/// qcow2, its journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetPlan {
    /// What it is called from now on.
    pub named: NamedLayer,
    /// It is empty and is to be made: bytes of a cluster, 0 for the default. None: it is there.
    pub create: Option<u32>,
    /// Host caching.
    pub cache: CacheMode,
    /// It lies on a server: its descriptor is a socket.
    pub remote: Option<Box<RemotePlan>>,
}

impl TargetPlan {
    /// Descriptors that it needs.
    pub fn fd_count(&self) -> usize {
        match self.named.format {
            LayerFormat::Raw => 1,
            LayerFormat::Qcow2 => 2,
        }
    }
}

/// A backing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerPlan {
    /// Its format.
    pub format: LayerFormat,
    /// It has an external data file.
    pub data_file: bool,
    /// Which bytes of it are the disk, if it is raw.
    pub part: Part,
}

/// Format of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerFormat {
    /// Bytes as they are.
    Raw,
    /// qcow2.
    Qcow2,
}
