//! The image that a command makes: its files, and what becomes of them.
//!
//! Law: what is in a file that is there already stays in it until the process that does the work has looked
//! at everything else, and says so.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bulkhead_protocol::tool::NewImage;
use bulkhead_supervisor::open::{Identity, find};

use crate::disk::Disk;
use crate::file::{Fresh, OpenFile};
use crate::server;

/// See the module.
#[derive(Debug)]
pub struct Target {
    files: Vec<Fresh>,
    secret: Option<OpenFile>,
}

impl Target {
    /// Makes the files. None of them may be one of a disk that is read, or the image's own backing file.
    /// `image` learns what the files are; `secret` names the file of its passphrase.
    pub fn make(
        path: &Path,
        image: &mut NewImage,
        secret: Option<&Path>,
        sources: &[&Disk],
    ) -> Result<Self> {
        for source in sources.iter().flat_map(|disk| &disk.files) {
            let real = |path| std::fs::canonicalize(path).ok();
            if real(path).is_some() && real(path) == real(&source.path) {
                bail!("{}: it is the source itself", path.display());
            }
        }
        let mut files = vec![Fresh::make(path)?];
        if image.has_data_file()
            && let Some(name) = &image.data_file
        {
            if server::uri(path).is_some() {
                bail!("-o data_file={name}: an image on a server has no other file");
            }
            files.push(Fresh::make(&beside(path, name))?);
        }
        let backing = image.backing.as_ref().and_then(|name| identity(&beside(path, name)));
        for fresh in &files {
            let path = fresh.file.path.display();
            if backing == Some(fresh.file.identity) {
                bail!("{path}: it is its own backing file; give it another, or another name");
            }
            // By another name, or through a link.
            let mut read = sources.iter().flat_map(|disk| &disk.files);
            if read.any(|source| source.identity == fresh.file.identity) {
                bail!("{path}: it is the source itself");
            }
        }
        image.remote = files.first().and_then(|fresh| fresh.file.remote.clone());
        image.secret = secret.is_some();
        Ok(Self { files, secret: secret.map(OpenFile::secret).transpose()? })
    }

    /// Its files.
    pub fn files(&self) -> impl Iterator<Item = &OpenFile> {
        self.files.iter().map(|fresh| &fresh.file).chain(&self.secret)
    }

    /// Keeps them if all went well; otherwise what was made goes away, and what was `emptied` is told of.
    pub fn after(mut self, done: Result<()>, emptied: bool) -> Result<()> {
        if done.is_ok() {
            self.files.iter_mut().for_each(Fresh::keep);
        }
        let ruined = self.files.iter().find(|fresh| emptied && fresh.is_ruined());
        match (done, ruined) {
            (Err(error), Some(fresh)) => {
                let path = fresh.file.path.display();
                Err(error.context(format!("{path} was overwritten and is not finished")))
            }
            (done, _) => done,
        }
    }
}

/// A name in a header, as it is meant.
fn beside(image: &Path, name: &str) -> PathBuf {
    image.parent().unwrap_or(Path::new("")).join(name)
}

/// Which object a path leads to, through all links.
fn identity(path: &Path) -> Option<Identity> {
    find(path).ok().map(|found| found.identity())
}
