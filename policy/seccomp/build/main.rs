//! Compiles every profile to BPF and writes the programs as Rust source.
//!
//! The compiler (`seccompiler`) and the parser of the profiles are needed here only: a helper carries
//! the finished instructions and nothing that could make others.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::Path;

use bulkhead_manifest::Manifest;
use emit::Entry;

mod assemble;
mod emit;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=../profiles");
    let names =
        bulkhead_manifest::PROFILES.iter().map(|(name, _)| bulkhead_manifest::profile(name));
    let manifests: Vec<Manifest> = names.collect::<Result<_, _>>()?;
    let mut source = String::new();
    for manifest in &manifests {
        let filter = bulkhead_manifest::filter::of(manifest)?;
        let kill = assemble::kill(&filter)?;
        let errno = assemble::errno(&filter)?;
        let under = manifests.iter().find(|other| other.passes_on.contains(&manifest.class));
        let under = under.map(|other| other.class.as_str());
        emit::program(&mut source, &Entry { manifest, under, filter, kill, errno })?;
    }
    let folder = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&folder).join("programs.rs"), emit::table(&source))?;
    Ok(())
}
