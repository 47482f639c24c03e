//! `info`

use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use anyhow::Result;
use bulkhead_block_layer::qcow2::info::Info;
use bulkhead_block_layer::qcow2::{Options, Tracked};
use serde_json::{Value, json};

use crate::cli::{self, Chain, Output};
use crate::disk::{Disk, Files};
use crate::{seal, size, snapshot};

/// `info`
pub fn run(options: &cli::Info) -> Result<ExitCode> {
    let files = Files::open(options.format, &options.file, &Chain::default(), true)?;
    let room = std::fs::metadata(&options.file)?.blocks() * 512;
    seal::seal()?;
    let disk = files.disk(Options::LOOK)?;
    let name = options.file.display().to_string();
    match options.output {
        Output::Json => {
            println!("{}", serde_json::to_string_pretty(&as_json(&disk, &name, options, room))?);
        }
        Output::Human => print_for_people(&disk, &name, options, room),
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(disk: &Disk, name: &str, options: &cli::Info, room: u64) -> Value {
    let mut facts = json!({
        "virtual-size": disk.size(),
        "filename": name,
        "format": options.format.name(),
        "actual-size": room,
        "dirty-flag": false,
    });
    let Disk::Qcow2(image) = disk else {
        return facts;
    };
    let info = image.info();
    facts["dirty-flag"] = json!(info.dirty());
    facts["cluster-size"] = json!(image.cluster_size());
    let mut data = specific(&info);
    let bitmaps = image.bitmaps();
    if !bitmaps.is_empty() {
        data["bitmaps"] = bitmaps.iter().map(|bitmap| bitmap_json(bitmap)).collect();
    }
    facts["format-specific"] = json!({ "type": "qcow2", "data": data });
    if let Some(backing) = &info.header.backing {
        facts["backing-filename"] = json!(backing);
    }
    if let Some(format) = &info.header.extensions.backing_format {
        facts["backing-filename-format"] = json!(format);
    }
    if !info.snapshots.is_empty() {
        let snapshots = info.snapshots.iter().map(|snapshot| {
            let mut facts = json!({
                "id": snapshot.id,
                "name": snapshot.name,
                "vm-state-size": snapshot.state_bytes,
                "date-sec": snapshot.seconds,
                "date-nsec": snapshot.nanoseconds,
                "vm-clock-sec": snapshot.clock / 1_000_000_000,
                "vm-clock-nsec": snapshot.clock % 1_000_000_000,
            });
            if let Some(icount) = snapshot.icount {
                facts["icount"] = json!(icount);
            }
            facts
        });
        facts["snapshots"] = snapshots.collect();
    }
    facts
}

fn bitmap_json(bitmap: &Tracked) -> Value {
    json!({
        "name": bitmap.name(),
        "granularity": bitmap.granularity(),
        "flags": flags(bitmap),
    })
}

fn flags(bitmap: &Tracked) -> Vec<&'static str> {
    let flags = [("in-use", bitmap.is_in_use()), ("auto", bitmap.is_enabled())];
    flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
}

fn print_bitmaps(bitmaps: &[std::rc::Rc<Tracked>]) {
    if bitmaps.is_empty() {
        return;
    }
    println!("    bitmaps:");
    for (number, bitmap) in bitmaps.iter().enumerate() {
        println!("        [{number}]:");
        println!("            flags:");
        for (number, flag) in flags(bitmap).iter().enumerate() {
            println!("                [{number}]: {flag}");
        }
        println!("            name: {}", bitmap.name());
        println!("            granularity: {}", bitmap.granularity());
    }
}

fn specific(info: &Info) -> Value {
    let mut data = json!({ "compat": info.compat(), "refcount-bits": info.refcount_bits() });
    data["compression-type"] = json!(info.header.compression.name());
    if info.header.version > 2 {
        data["lazy-refcounts"] = json!(info.lazy_refcounts());
        data["corrupt"] = json!(info.corrupt());
        data["extended-l2"] = json!(info.header.geometry.extended);
    }
    if let Some(name) = &info.header.extensions.data_file {
        data["data-file"] = json!(name);
        data["data-file-raw"] = json!(info.header.is_data_file_raw());
    }
    data
}

fn print_for_people(disk: &Disk, name: &str, options: &cli::Info, room: u64) {
    println!("image: {name}");
    println!("file format: {}", options.format.name());
    println!("virtual size: {} ({} bytes)", size::human(disk.size()), disk.size());
    println!("disk size: {}", size::human(room));
    let Disk::Qcow2(image) = disk else {
        return;
    };
    let info = image.info();
    println!("cluster_size: {}", image.cluster_size());
    if let Some(backing) = &info.header.backing {
        println!("backing file: {backing}");
    }
    if let Some(format) = &info.header.extensions.backing_format {
        println!("backing file format: {format}");
    }
    snapshot::print_list(&info.snapshots);
    println!("Format specific information:");
    println!("    compat: {}", info.compat());
    println!("    compression type: {}", info.header.compression.name());
    if info.header.version > 2 {
        println!("    lazy refcounts: {}", info.lazy_refcounts());
    }
    print_bitmaps(&image.bitmaps());
    println!("    refcount bits: {}", info.refcount_bits());
    if let Some(name) = &info.header.extensions.data_file {
        println!("    data file: {name}");
        println!("    data file raw: {}", info.header.is_data_file_raw());
    }
    if info.header.version > 2 {
        println!("    corrupt: {}", info.corrupt());
        println!("    extended l2: {}", info.header.geometry.extended);
    }
}
