//! Disks: the files that make one, and the plan by which a block-tool finds them.

use std::path::Path;

use anyhow::{Result, bail};
use bulkhead_protocol::block::{LayerNumber, LayerPlan, RemotePlan};
use bulkhead_protocol::spec::Part;
use bulkhead_protocol::tool::PlannedDisk;

use crate::cli::{Chain, Format};
use crate::file::{Access, OpenFile};

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
        let mut opening = Opening::default();
        opening.layer(format, OpenFile::open(path, access)?)?;
        if let Some(data) = &chain.data_file {
            opening.data(OpenFile::open(data, access)?);
        }
        if let Some(secret) = &chain.key_secret {
            opening.secret(OpenFile::secret(secret)?);
        }
        for ((format, path), number) in chain.backing.iter().zip(1..) {
            let access = if base == Some(number) { Access::WRITE } else { below };
            opening.layer(*format, OpenFile::open(path, access)?)?;
        }
        let written = access.write.then_some(0).into_iter().chain(base).collect();
        let Opening { layers, remotes, files } = opening;
        Ok(Self { plan: PlannedDisk { layers, written, remotes }, files })
    }
}

/// A disk whose files are being opened, layer by layer.
#[derive(Debug, Default)]
struct Opening {
    layers: Vec<LayerPlan>,
    remotes: Vec<RemotePlan>,
    files: Vec<OpenFile>,
}

impl Opening {
    fn layer(&mut self, format: Format, file: OpenFile) -> Result<()> {
        if self.files.iter().any(|other| other.identity == file.identity) {
            bail!("{}: it is in the chain twice, which is a loop", file.path.display());
        }
        if let Some(remote) = &file.remote {
            let layer = LayerNumber::try_from(self.layers.len())?;
            self.remotes.push(RemotePlan { layer, ..remote.clone() });
        }
        let (format, part) = (format.plan(), Part::default());
        self.layers.push(LayerPlan { format, data_file: false, part, secret: false });
        self.files.push(file);
        Ok(())
    }

    fn data(&mut self, file: OpenFile) {
        if let Some(layer) = self.layers.last_mut() {
            layer.data_file = true;
            self.files.push(file);
        }
    }

    fn secret(&mut self, secret: OpenFile) {
        if let Some(layer) = self.layers.last_mut() {
            layer.secret = true;
            self.files.push(secret);
        }
    }
}

/// The files of several disks, in their order.
pub fn files<'a>(disks: impl IntoIterator<Item = &'a Disk>) -> Vec<&'a OpenFile> {
    disks.into_iter().flat_map(|disk| &disk.files).collect()
}
