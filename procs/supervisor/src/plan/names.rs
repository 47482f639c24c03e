//! Names and texts of a spec: characters, lengths, duplicates.

use std::collections::HashSet;

use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::{DiskSpec, Spec};

use crate::refusal::refuse;

/// Longest name: with its folder's path it stays below the length of a socket address where that
/// is usual.
const LONGEST: usize = 48;

/// virtio-blk's serial number (virtio 1.2 section 5.2.6, VIRTIO_BLK_T_GET_ID).
const LONGEST_SERIAL: usize = 20;

/// Slots 1 to 31 of the PCI bus, less console and rng.
const MOST_DISKS: usize = 29;

/// Checks all names of `spec`.
pub fn check(spec: &Spec) -> Result<(), Refusal> {
    check_name("--name", spec.name())?;
    let disks = spec.disks();
    if disks.len() > MOST_DISKS {
        let reason = format!("an instance has at most {MOST_DISKS} disks");
        return Err(refuse("--disk", disks.len(), reason, "give fewer"));
    }
    let mut seen = HashSet::new();
    for disk in disks {
        check_name("--disk id", &disk.id)?;
        if !seen.insert(&disk.id) {
            let reason = "another disk has this id";
            return Err(refuse("--disk id", &disk.id, reason, "give each its own"));
        }
        check_serial(disk)?;
    }
    Ok(())
}

fn check_name(option: &str, name: &str) -> Result<(), Refusal> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let reason = match name {
        "" => "a name has at least one character",
        _ if name.len() > LONGEST => "a name has at most 48 characters",
        _ if !name.chars().all(allowed) => "a name has letters, digits and . _ - only",
        _ if name.starts_with(['.', '-']) => "a name begins with a letter, a digit or _",
        _ => return Ok(()),
    };
    Err(refuse(option, name, reason, "choose another"))
}

fn check_serial(disk: &DiskSpec) -> Result<(), Refusal> {
    let printable = disk.serial.chars().all(|c| c.is_ascii_graphic());
    if disk.serial.len() <= LONGEST_SERIAL && printable {
        return Ok(());
    }
    let reason = "a serial number has at most 20 printable characters";
    let option = format!("--disk {}", disk.id);
    let value = format!("serial={}", disk.serial);
    Err(refuse(option, value, reason, "shorten it"))
}
