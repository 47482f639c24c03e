//! Who holds an image that we cannot have, as far as it can be told.
//!
//! Called by the plan when a lock was refused: another instance is found by its record, any other
//! program by the locks in its `/proc/PID/fdinfo`. A hint for a message; nothing rests on it.

use std::fs;

use bulkhead_protocol::record::{InstanceKind, InstanceRecord};

use crate::open::Identity;

/// Names the owner of the image `identity`, such as "VM web (disk d0)" or "qemu-system-x86 (pid 7)".
pub fn name(instances: &[InstanceRecord], identity: Identity) -> String {
    among(instances, identity)
        .or_else(|| in_proc(identity))
        .unwrap_or_else(|| "another program".to_owned())
}

fn among(instances: &[InstanceRecord], identity: Identity) -> Option<String> {
    instances.iter().find_map(|instance| {
        let image = instance
            .images
            .iter()
            .find(|image| (image.device, image.inode) == (identity.device, identity.inode))?;
        let kind = match instance.kind {
            InstanceKind::Vm => "VM",
            InstanceKind::Storage => "storage",
        };
        Some(format!("{kind} {} (disk {})", instance.name, image.id))
    })
}

fn in_proc(identity: Identity) -> Option<String> {
    let processes = fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        if pid == std::process::id() as i32 || !holds(pid, identity) {
            return None;
        }
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some(format!("{} (pid {pid})", name.trim()))
    })
}

fn holds(pid: i32, identity: Identity) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else {
        return false;
    };
    let mut texts = entries.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
    texts.any(|text| text.lines().any(|line| locks(line, identity)))
}

/// Whether a line of fdinfo is a lock on the object:
/// `lock: 1: OFDLCK  ADVISORY  READ -1 00:1f:4711 100 101`.
fn locks(line: &str, identity: Identity) -> bool {
    let Some(lock) = line.strip_prefix("lock:") else {
        return false;
    };
    let object = object_of(identity);
    lock.split_whitespace().any(|word| word == object)
}

/// Device (hexadecimal major and minor) and inode as `/proc/locks` writes them.
fn object_of(identity: Identity) -> String {
    let (major, minor) = (libc::major(identity.device) as u64, libc::minor(identity.device) as u64);
    format!("{major:02x}:{minor:02x}:{}", identity.inode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_protocol::record::ImageRecord;

    const IMAGE: Identity = Identity { device: 0x1f, inode: 4711 };

    fn instance(kind: InstanceKind) -> InstanceRecord {
        InstanceRecord {
            version: 1,
            name: "web".into(),
            kind,
            pid: 1,
            started: 0,
            images: vec![ImageRecord {
                id: "d0".into(),
                path: "/x".into(),
                device: IMAGE.device,
                inode: IMAGE.inode,
                read_only: false,
            }],
            sockets: vec![],
            cgroups: vec![],
        }
    }

    #[test]
    fn another_instance_is_named_with_its_disk() {
        let name = |kind| super::name(&[instance(kind)], IMAGE);
        assert_eq!(name(InstanceKind::Vm), "VM web (disk d0)");
        assert_eq!(name(InstanceKind::Storage), "storage web (disk d0)");
    }

    #[test]
    fn a_lock_line_is_matched_by_device_and_inode() {
        let line = "lock:\t1: OFDLCK  ADVISORY  READ -1 00:1f:4711 100 101";
        assert!(locks(line, IMAGE));
        assert!(!locks("lock:\t1: OFDLCK  ADVISORY  READ -1 00:1f:47111 100 101", IMAGE));
        assert!(!locks("pos:\t00:1f:4711", IMAGE));
    }

    #[test]
    fn an_image_nobody_is_seen_to_hold_is_another_programs() {
        let nowhere = Identity { device: 1, inode: 1 };
        assert_eq!(super::name(&[], nowhere), "another program");
    }
}
