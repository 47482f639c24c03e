//! What a dead instance left outside its folder.
//!
//! Called with the record of an instance whose lock was free, by whoever holds that lock now. Sockets
//! are removed only if they are sockets nobody listens on, cgroup folders only if they are empty of
//! processes: another program may own the path by now.

use std::path::Path;

use bulkhead_protocol::record::InstanceRecord;

use crate::dial::is_stale;

/// Removes the sockets and cgroup folders that the record names. What resists is left.
pub fn remove(record: &InstanceRecord) {
    for socket in &record.sockets {
        remove_socket(socket);
    }
    for folder in &record.cgroups {
        crate::cgroup::remove_tree(folder);
    }
}

fn remove_socket(path: &Path) {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return;
    };
    if let Ok(folder) = crate::open::find(parent)
        && is_stale(folder.into_fd(), name)
    {
        let _ = std::fs::remove_file(path);
    }
}
