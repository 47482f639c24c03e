//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder that holds the command and all its helpers: what `make build` makes, or the folder
/// that `BULKHEAD_BIN` names.
pub fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("BULKHEAD_BIN") {
        return folder.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dist = root.join("target/dist/bin");
    assert!(dist.join("bulkhead").is_file(), "{} is empty: run `make build`", dist.display());
    dist.canonicalize().expect("the folder exists")
}

/// The `bulkhead` command.
pub fn bulkhead() -> Command {
    Command::new(folder().join("bulkhead"))
}
