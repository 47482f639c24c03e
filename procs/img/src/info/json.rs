//! What an image is, for programs: names and nesting are qemu-img's.

use bulkhead_protocol::tool::{BitmapFacts, Qcow2Facts, SnapshotFacts};
use serde_json::{Value, json};

use super::{Facts, luks};

/// One image.
pub fn of(facts: &Facts) -> Value {
    let mut value = json!({
        "virtual-size": facts.image.size,
        "filename": facts.path.display().to_string(),
        "format": facts.format.name(),
        "dirty-flag": false,
    });
    if let Some(room) = facts.room {
        value["actual-size"] = json!(room);
    }
    let luks = facts.image.luks.as_ref().map(luks::of);
    if luks.is_some() {
        value["encrypted"] = json!(true);
    }
    let Some(qcow2) = &facts.image.qcow2 else {
        if let Some(luks) = luks {
            value["format-specific"] = json!({ "type": "luks", "data": luks });
        }
        return value;
    };
    value["dirty-flag"] = json!(qcow2.dirty);
    value["cluster-size"] = json!(qcow2.cluster_size);
    let mut data = specific(qcow2);
    if !facts.bitmaps.is_empty() {
        data["bitmaps"] = facts.bitmaps.iter().map(bitmap).collect();
    }
    if let Some(mut luks) = luks {
        luks["format"] = json!("luks");
        data["encrypt"] = luks;
    }
    value["format-specific"] = json!({ "type": "qcow2", "data": data });
    if let Some(backing) = &qcow2.backing {
        value["backing-filename"] = json!(backing);
        let folder = facts.path.parent().unwrap_or(std::path::Path::new(""));
        value["full-backing-filename"] = json!(folder.join(backing).display().to_string());
    }
    if let Some(format) = &qcow2.backing_format {
        value["backing-filename-format"] = json!(format);
    }
    if !facts.snapshots.is_empty() {
        value["snapshots"] = facts.snapshots.iter().map(snapshot).collect();
    }
    value
}

fn specific(qcow2: &Qcow2Facts) -> Value {
    let mut data = json!({
        "compat": super::human::compat(qcow2.version),
        "refcount-bits": qcow2.refcount_bits,
        "compression-type": qcow2.compression,
    });
    if qcow2.version > 2 {
        data["lazy-refcounts"] = json!(qcow2.lazy_refcounts);
        data["corrupt"] = json!(qcow2.corrupt);
        data["extended-l2"] = json!(qcow2.extended_l2);
    }
    if let Some(name) = &qcow2.data_file {
        data["data-file"] = json!(name);
        data["data-file-raw"] = json!(qcow2.data_file_raw);
    }
    data
}

fn bitmap(bitmap: &BitmapFacts) -> Value {
    json!({
        "name": bitmap.name,
        "granularity": bitmap.granularity,
        "flags": super::human::flags(bitmap),
    })
}

fn snapshot(snapshot: &SnapshotFacts) -> Value {
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
}
