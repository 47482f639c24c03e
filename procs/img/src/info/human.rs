//! What an image is, for people: the lines are qemu-img's.

use anyhow::Result;
use bulkhead_protocol::tool::{BitmapFacts, Qcow2Facts, SnapshotFacts};

use super::{Facts, luks};
use crate::out::{clean, line};
use crate::size;
use crate::time::{clock, date};

/// `0.10` or `1.1`, as QEMU calls versions 2 and 3.
pub fn compat(version: u32) -> &'static str {
    if version < 3 { "0.10" } else { "1.1" }
}

/// What is set of a bitmap.
pub fn flags(bitmap: &BitmapFacts) -> Vec<&'static str> {
    let flags = [("in-use", bitmap.in_use), ("auto", bitmap.enabled)];
    flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
}

/// One image.
pub fn print(facts: &Facts) -> Result<()> {
    let size = facts.image.size;
    line(format_args!("image: {}", facts.path.display()))?;
    line(format_args!("file format: {}", facts.format.name()))?;
    line(format_args!("virtual size: {} ({size} bytes)", size::human(size)))?;
    let room = facts.room.map_or("unavailable".to_owned(), size::human);
    line(format_args!("disk size: {room}"))?;
    let luks = facts.image.luks.as_ref();
    if luks.is_some() {
        line("encrypted: yes")?;
    }
    let Some(qcow2) = &facts.image.qcow2 else {
        if let Some(luks) = luks {
            line("Format specific information:")?;
            luks::print(luks, "    ", false)?;
        }
        return Ok(());
    };
    if qcow2.dirty {
        line("cleanly shut down: no")?;
    }
    line(format_args!("cluster_size: {}", qcow2.cluster_size))?;
    if let Some(backing) = &qcow2.backing {
        print_backing(facts, backing)?;
    }
    if let Some(format) = &qcow2.backing_format {
        line(format_args!("backing file format: {}", clean(format)))?;
    }
    print_snapshots(&facts.snapshots)?;
    print_specific(facts, qcow2)
}

fn print_backing(facts: &Facts, name: &str) -> Result<()> {
    let folder = facts.path.parent().unwrap_or(std::path::Path::new(""));
    let full = folder.join(name).display().to_string();
    let (name, full) = (clean(name), clean(&full));
    match name == full {
        true => line(format_args!("backing file: {name}"))?,
        false => line(format_args!("backing file: {name} (actual path: {full})"))?,
    }
    Ok(())
}

fn print_specific(facts: &Facts, qcow2: &Qcow2Facts) -> Result<()> {
    line("Format specific information:")?;
    line(format_args!("    compat: {}", compat(qcow2.version)))?;
    line(format_args!("    compression type: {}", clean(&qcow2.compression)))?;
    if qcow2.version > 2 {
        line(format_args!("    lazy refcounts: {}", qcow2.lazy_refcounts))?;
    }
    print_bitmaps(&facts.bitmaps)?;
    line(format_args!("    refcount bits: {}", qcow2.refcount_bits))?;
    if let Some(luks) = &facts.image.luks {
        line("    encrypt:")?;
        luks::print(luks, "        ", true)?;
    }
    if let Some(name) = &qcow2.data_file {
        line(format_args!("    data file: {}", clean(name)))?;
        line(format_args!("    data file raw: {}", qcow2.data_file_raw))?;
    }
    if qcow2.version > 2 {
        line(format_args!("    corrupt: {}", qcow2.corrupt))?;
        line(format_args!("    extended l2: {}", qcow2.extended_l2))?;
    }
    Ok(())
}

fn print_bitmaps(bitmaps: &[BitmapFacts]) -> Result<()> {
    if bitmaps.is_empty() {
        return Ok(());
    }
    line("    bitmaps:")?;
    for (number, bitmap) in bitmaps.iter().enumerate() {
        line(format_args!("        [{number}]:"))?;
        line("            flags:")?;
        for (number, flag) in flags(bitmap).iter().enumerate() {
            line(format_args!("                [{number}]: {flag}"))?;
        }
        line(format_args!("            name: {}", clean(&bitmap.name)))?;
        line(format_args!("            granularity: {}", bitmap.granularity))?;
    }
    Ok(())
}

/// A table of them, nothing if there are none.
pub fn print_snapshots(snapshots: &[SnapshotFacts]) -> Result<()> {
    if snapshots.is_empty() {
        return Ok(());
    }
    line("Snapshot list:")?;
    line(format_args!(
        "{:<10}{:<17}{:>8}{:>20}{:>13}{:>11}",
        "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT"
    ))?;
    for snapshot in snapshots {
        let size = size::human(snapshot.state_bytes);
        let (date, clock) = (date(snapshot.seconds.into()), clock(snapshot.clock));
        let icount = snapshot.icount.map_or(String::new(), |icount| icount.to_string());
        let (id, name) = (clean(&snapshot.id), clean(&snapshot.name));
        line(format_args!("{id:<9} {name:<16} {size:>8}{date:>20}{clock:>13}{icount:>11}"))?;
    }
    Ok(())
}
