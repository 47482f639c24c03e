//! The limits of what a client may say.

use std::path::Path;

use super::{
    BitmapAction, BlockRequest, FileSpec, JobSpec, LONGEST_BACKING_FILE, LONGEST_NAME,
    LONGEST_PATH, MOST_ADDRESSES, MOST_MERGED, MOST_OVERLAYS, StartSpec,
};
use crate::filters::BadFilters;
use crate::spec::{Address, NbdSpec};

/// Queues of an export.
const MOST_QUEUES: usize = 16;

/// Why a request is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A name that is none.
    #[error("a name of {0} bytes: names have 1 to {LONGEST_NAME}")]
    Name(usize),
    /// A name of a backing file that no header has room for.
    #[error("--backing-file of {0} bytes: a header has room for 1 to {LONGEST_BACKING_FILE}")]
    BackingFile(usize),
    /// A path that is none.
    #[error("{0} is no absolute path of at most {LONGEST_PATH} bytes")]
    Path(String),
    /// A list that is too long, or empty.
    #[error("{0} of them: give 1 to {1}")]
    Count(usize, usize),
    /// Limits that do not go together.
    #[error(transparent)]
    Limits(#[from] BadFilters),
}

impl BlockRequest {
    /// Whether every name, path and list is within its limits.
    pub fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Query | Self::Jobs | Self::Exports => Ok(()),
            Self::Snapshot(overlays) => {
                count(overlays.len(), MOST_OVERLAYS)?;
                overlays.iter().try_for_each(|overlay| {
                    name(&overlay.disk)?;
                    file(&overlay.file)
                })
            }
            Self::Start(start) => start.check(),
            Self::Job { job, .. } => name(job),
            Self::Bitmap { disk, bitmap, action } => {
                name(disk)?;
                name(bitmap)?;
                if let BitmapAction::Merge(others) = action {
                    count(others.len(), MOST_MERGED)?;
                    others.iter().try_for_each(|other| name(other))?;
                }
                Ok(())
            }
            Self::InternalSnapshot { disk, snapshot, .. } => {
                name(disk)?;
                name(snapshot)
            }
            Self::Throttle { disk, limits } => {
                limits.check()?;
                name(disk)
            }
            Self::Resume { disk } | Self::Resize { disk, .. } => name(disk),
            Self::AddExport(export) => export_is_within_limits(export),
            Self::AddVhostUserExport(export) => {
                name(&export.disk)?;
                count(export.queues.into(), MOST_QUEUES)?;
                path(&export.socket)
            }
            Self::RemoveExport { export, .. } => name(export),
        }
    }
}

impl StartSpec {
    fn check(&self) -> Result<(), Malformed> {
        name(&self.disk)?;
        if !self.job.is_empty() {
            name(&self.job)?;
        }
        match &self.kind {
            JobSpec::Stream { base, backing_file } => {
                backing_file.iter().try_for_each(|name| backing(name))?;
                base.iter().try_for_each(|base| path(base))
            }
            JobSpec::Commit { top, base, backing_file } => {
                backing_file.iter().try_for_each(|name| backing(name))?;
                top.iter().chain(base).try_for_each(|layer| path(layer))
            }
            JobSpec::Mirror { target, .. } => file(target),
            JobSpec::Backup { target, bitmap, .. } => {
                bitmap.iter().try_for_each(|bitmap| name(bitmap))?;
                file(target)
            }
        }
    }
}

/// What is in its texts is judged by the supervisor, as at a start.
fn export_is_within_limits(export: &NbdSpec) -> Result<(), Malformed> {
    name(&export.disk)?;
    if !export.id.is_empty() {
        name(&export.id)?;
    }
    export.bitmap.iter().try_for_each(|bitmap| name(bitmap))?;
    if let Address::Path(socket) = &export.listen {
        path(socket)?;
    }
    export.tls.as_ref().map_or(Ok(()), |tls| path(&tls.folder))
}

fn backing(name: &str) -> Result<(), Malformed> {
    match name.len() {
        1..=LONGEST_BACKING_FILE => Ok(()),
        len => Err(Malformed::BackingFile(len)),
    }
}

fn name(name: &str) -> Result<(), Malformed> {
    match name.len() {
        1..=LONGEST_NAME => Ok(()),
        len => Err(Malformed::Name(len)),
    }
}

fn file(file: &FileSpec) -> Result<(), Malformed> {
    let Some(server) = &file.server else {
        return path(&file.path);
    };
    count(server.addresses.len(), MOST_ADDRESSES)?;
    let paths = server.addresses.iter().filter_map(|address| match address {
        Address::Path(path) => Some(path),
        Address::Tcp(_) => None,
    });
    paths.chain(server.tls.iter().map(|tls| &tls.folder)).try_for_each(|there| path(there))?;
    server.tls.iter().try_for_each(|tls| name(&tls.hostname))?;
    match file.path.as_os_str().len().max(server.export.len()) {
        0..=LONGEST_PATH => Ok(()),
        len => Err(Malformed::Name(len)),
    }
}

fn path(path: &Path) -> Result<(), Malformed> {
    match path.is_absolute() && path.as_os_str().len() <= LONGEST_PATH {
        true => Ok(()),
        false => Err(Malformed::Path(path.display().to_string().chars().take(80).collect())),
    }
}

fn count(found: usize, most: usize) -> Result<(), Malformed> {
    match found {
        0 => Err(Malformed::Count(0, most)),
        found if found > most => Err(Malformed::Count(found, most)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::LayerFormat;
    use crate::block_control::{JobAction, OverlaySpec};

    fn overlay(disk: &str, path: &str) -> OverlaySpec {
        let file = FileSpec {
            path: path.into(),
            server: None,
            format: LayerFormat::Qcow2,
            existing: false,
            cluster_size: 0,
        };
        OverlaySpec { disk: disk.into(), file }
    }

    #[test]
    fn names_paths_and_lists_have_limits() {
        let snapshot = |overlays| BlockRequest::Snapshot(overlays).check();
        assert_eq!(snapshot(vec![overlay("d0", "/a")]), Ok(()));
        assert_eq!(snapshot(Vec::new()), Err(Malformed::Count(0, MOST_OVERLAYS)));
        let many = vec![overlay("d0", "/a"); MOST_OVERLAYS + 1];
        assert_eq!(snapshot(many), Err(Malformed::Count(MOST_OVERLAYS + 1, MOST_OVERLAYS)));
        assert_eq!(snapshot(vec![overlay("", "/a")]), Err(Malformed::Name(0)));
        assert_eq!(snapshot(vec![overlay("d0", "a")]), Err(Malformed::Path("a".into())));
        let long = "x".repeat(LONGEST_NAME + 1);
        let job = BlockRequest::Job { job: long, action: JobAction::Pause };
        assert_eq!(job.check(), Err(Malformed::Name(LONGEST_NAME + 1)));
    }
}
