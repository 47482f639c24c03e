//! Disks: the files that make one, and the plan by which a block-tool finds them.

use std::path::Path;

use anyhow::{Result, bail};
use bulkhead_protocol::block::LayerPlan;
use bulkhead_protocol::spec::Part;
use bulkhead_protocol::tool::PlannedDisk;

use crate::cli::{Chain, Format};
use crate::file::{Access, OpenFile};

/// Most files of a command: what a message carries.
const MOST_FILES: usize = 48;

/// A disk whose files are open.
#[derive(Debug)]
pub struct Disk {
    /// What is said of it.
    pub plan: PlannedDisk,
    /// Its files, in the plan's order.
    pub files: Vec<OpenFile>,
}

impl Disk {
    /// Opens an image alone.
    pub fn alone(format: Format, path: &Path, access: Access) -> Result<Self> {
        Self::open(format, path, &Chain::default(), access)
    }

    /// Opens an image and the files that belong to it.
    pub fn open(format: Format, path: &Path, chain: &Chain, access: Access) -> Result<Self> {
        Self::open_onto(format, path, chain, access, None)
    }

    /// The same, with one of the backing files to be written; 1 is the nearest.
    pub fn open_onto(
        format: Format,
        path: &Path,
        chain: &Chain,
        access: Access,
        base: Option<u16>,
    ) -> Result<Self> {
        let below = Access { write: false, direct: false, ..access };
        let mut files = vec![OpenFile::open(path, access)?];
        let data_file = chain.data_file.is_some();
        if let Some(data) = &chain.data_file {
            files.push(OpenFile::open(data, access)?);
        }
        let mut layers =
            vec![LayerPlan { format: format.plan(), data_file, part: Part::default() }];
        for ((format, path), number) in chain.backing.iter().zip(1..) {
            let access = if base == Some(number) { Access::WRITE } else { below };
            if files.len() >= MOST_FILES {
                bail!("{}: a chain has at most {MOST_FILES} files", path.display());
            }
            let file = OpenFile::open(path, access)?;
            if files.iter().any(|other| other.identity == file.identity) {
                bail!("{}: it is in the chain twice, which is a loop", path.display());
            }
            files.push(file);
            layers.push(LayerPlan {
                format: format.plan(),
                data_file: false,
                part: Part::default(),
            });
        }
        let written = access.write.then_some(0).into_iter().chain(base).collect();
        Ok(Self { plan: PlannedDisk { layers, written }, files })
    }
}

/// The files of several disks, in their order.
pub fn files<'a>(disks: impl IntoIterator<Item = &'a Disk>) -> Vec<&'a OpenFile> {
    disks.into_iter().flat_map(|disk| &disk.files).collect()
}
