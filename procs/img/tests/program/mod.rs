//! The command under test, and running it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The command that was just built, if its helpers are beside it; else one that was installed with them.
pub fn program() -> PathBuf {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_bulkhead-img"));
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/dist/bin/bulkhead-img");
    let named =
        std::env::var_os("BULKHEAD_BIN").map(|folder| Path::new(&folder).join("bulkhead-img"));
    let whole = |path: &PathBuf| {
        let helpers = ["bulkhead-launcher", "bulkhead-block-layer"];
        path.is_file() && helpers.iter().all(|helper| path.with_file_name(helper).is_file())
    };
    let found = [Some(built), named, Some(dist)].into_iter().flatten().find(whole);
    found.expect("bulkhead-launcher and bulkhead-block-layer are not built: run `make build`")
}

pub fn ours(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(folder).output().expect("bulkhead-img runs")
}

pub fn must(arguments: &[&str], folder: &Path) -> String {
    let output = ours(arguments, folder);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}{complaint}");
    text
}
