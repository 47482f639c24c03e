//! Writes what attestation takes from the profiles as Rust source, so that the supervisor carries
//! numbers and no parser.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use bulkhead_manifest::holding::When;
use bulkhead_manifest::{CLASSES, Manifest, profile};

/// Descriptors that every process is born with.
const BORN_WITH: u32 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=../../policy/profiles");
    let mut source = String::from("static MADE_BEFORE_SEAL: &[(&str, u32)] = &[\n");
    for class in CLASSES {
        let made = made_before_seal(&profile(class)?);
        writeln!(source, "    ({class:?}, {made}),")?;
    }
    source.push_str("];\n");
    let folder = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&folder).join("declared.rs"), source)?;
    Ok(())
}

/// Descriptors that a class may make before its seal.
fn made_before_seal(manifest: &Manifest) -> u32 {
    let at_start = manifest.fd.iter().filter(|held| held.when == When::Start);
    at_start.map(|held| held.max).sum::<u32>().saturating_sub(BORN_WITH)
}
