//! The image that a command makes: its files, empty, and what becomes of them.

use std::path::Path;

use anyhow::{Result, bail};
use bulkhead_protocol::tool::NewImage;

use crate::disk::Disk;
use crate::file::{Fresh, OpenFile};

/// See the module.
#[derive(Debug)]
pub struct Target(Vec<Fresh>);

impl Target {
    /// Makes the files. None of them may be one of a disk that is read.
    pub fn make(path: &Path, image: &NewImage, sources: &[&Disk]) -> Result<Self> {
        for source in sources.iter().flat_map(|disk| &disk.files) {
            let same = std::fs::canonicalize(path).ok() == std::fs::canonicalize(&source.path).ok();
            if same {
                bail!("{}: it is the source itself", path.display());
            }
        }
        let mut files = vec![Fresh::make(path)?];
        if image.has_data_file()
            && let Some(name) = &image.data_file
        {
            let folder = path.parent().unwrap_or(Path::new(""));
            files.push(Fresh::make(&folder.join(name))?);
        }
        for fresh in &files {
            // By another name, or through a link.
            let mut read = sources.iter().flat_map(|disk| &disk.files);
            if read.any(|source| source.identity == fresh.file.identity) {
                bail!("{}: it is the source itself", fresh.file.path.display());
            }
        }
        files.iter().try_for_each(Fresh::empty)?;
        Ok(Self(files))
    }

    /// Its files.
    pub fn files(&self) -> impl Iterator<Item = &OpenFile> {
        self.0.iter().map(|fresh| &fresh.file)
    }

    /// Keeps them if all went well; otherwise what was made goes away, and what was overwritten is told of.
    pub fn after(mut self, done: Result<()>) -> Result<()> {
        if done.is_ok() {
            self.0.iter_mut().for_each(Fresh::keep);
        }
        let ruined = self.0.iter().find(|fresh| fresh.is_ruined());
        match (done, ruined) {
            (Err(error), Some(fresh)) => {
                let path = fresh.file.path.display();
                Err(error.context(format!("{path} was overwritten and is not finished")))
            }
            (done, _) => done,
        }
    }
}
