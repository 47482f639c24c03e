//! Where instances live: `$XDG_RUNTIME_DIR/bulkhead`, as root `/run/bulkhead`.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::refusal::refuse;

/// The directory, whether it exists or not.
pub fn path() -> PathBuf {
    if bulkhead_sys::identity::is_root() {
        return PathBuf::from("/run/bulkhead");
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !dir.is_empty() => Path::new(&dir).join("bulkhead"),
        _ => PathBuf::from(format!("/tmp/bulkhead-{}", bulkhead_sys::identity::uid())),
    }
}

/// Opens the directory, making it if need be. It must be ours alone: sockets in it are authority.
pub fn open() -> anyhow::Result<std::fs::File> {
    let path = path();
    let name = path.display().to_string();
    let remedy = "set XDG_RUNTIME_DIR to a directory of yours";
    match std::fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(refuse("runtime directory", &name, error.to_string(), remedy));
        }
        _ => {}
    }
    let found = std::fs::symlink_metadata(&path)?;
    if !found.is_dir() || found.uid() != bulkhead_sys::identity::uid() || found.mode() & 0o022 != 0
    {
        let reason = "it is not a directory that only you can write";
        return Err(refuse("runtime directory", &name, reason, remedy));
    }
    Ok(std::fs::File::open(&path)?)
}

/// Names of the instances that have a folder there, in order.
pub fn instances() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(path()) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}
