//! Where the programs under test are.

use std::path::{Path, PathBuf};

/// A program of the project: the newest of those beside the tests' own and in the distribution
/// folder.
pub fn program(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("{name} is not built: run `make build` first"))
}

/// The same, if it is built.
pub fn find(name: &str) -> Option<PathBuf> {
    let tests = std::env::current_exe().expect("a test has a program");
    let beside = tests.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let found =
        beside.chain([root.join("target/dist/bin").join(name)]).filter(|path| path.exists());
    found.max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok())
}
