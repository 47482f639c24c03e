//! Where the helpers' executables are: beside this one, or in `../libexec/bulkhead`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bulkhead_protocol::class::ProcessClass;

/// The directory that holds them.
pub fn directory() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("the command cannot find its own executable")?;
    let beside = own.parent().unwrap_or(Path::new("/")).to_owned();
    let libexec = beside.join("../libexec/bulkhead");
    let supervisor = ProcessClass::Supervisor.binary();
    for candidate in [&beside, &libexec] {
        if candidate.join(&supervisor).is_file() {
            return Ok(candidate.clone());
        }
    }
    anyhow::bail!(
        "{supervisor} is neither in {} nor in {}; install all of Bulkhead in one place",
        beside.display(),
        libexec.display()
    )
}
