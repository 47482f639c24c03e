//! Compiles every profile to BPF and writes the programs as Rust source.
//!
//! The compiler (`seccompiler`) and the parser of the profiles are needed here only: a helper carries
//! the finished instructions and nothing that could make others.

use std::error::Error;
use std::path::Path;

mod assemble;
mod emit;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=../profiles");
    let mut source = String::new();
    for (name, _) in bulkhead_manifest::PROFILES {
        let manifest = bulkhead_manifest::profile(name)?;
        let filter = bulkhead_manifest::filter::of(&manifest)?;
        let kill = assemble::kill(&filter)?;
        let errno = assemble::errno(&filter)?;
        emit::program(&mut source, &manifest, &filter, &kill, &errno)?;
    }
    let folder = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&folder).join("programs.rs"), emit::table(&source))?;
    Ok(())
}
