//! Writes what a jail takes from the profiles as Rust source, so that the launcher carries numbers
//! and no parser.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use bulkhead_manifest::limits::CgroupBudget;
use bulkhead_manifest::{CLASSES, Manifest, profile};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=../profiles");
    let mut source = String::from("static BUDGETS: &[Budget] = &[\n");
    for class in CLASSES {
        budget(&mut source, &profile(class)?)?;
    }
    source.push_str("];\n");
    let folder = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&folder).join("budgets.rs"), source)?;
    Ok(())
}

fn budget(source: &mut String, manifest: &Manifest) -> std::fmt::Result {
    writeln!(source, "    Budget {{ class: {:?}, limits: &[", manifest.class)?;
    for limit in &manifest.limit {
        let resource = format!("RLIMIT_{}", limit.resource.name().to_uppercase());
        writeln!(source, "        (Resource::{resource}, {}),", limit.value)?;
    }
    let CgroupBudget { pids, memory, cpu_percent, .. } = &manifest.cgroup;
    writeln!(source, "    ], pids: {pids:?}, memory: {memory:?}, cpu_percent: {cpu_percent:?} }},")
}
