//! A slow disk: the blkio controller (v1) or io (v2) on a loop device.
//!
//! With a few requests a second nearly every kill finds writes on their way to the device, and a write
//! that outlives its process has seconds to show it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Version 1's hierarchy.
const V1: &str = "/sys/fs/cgroup/blkio";

/// Version 2's.
const V2: &str = "/sys/fs/cgroup";

/// A cgroup with a limit on one device; removed on drop, once it is empty.
#[derive(Debug)]
pub struct Throttle {
    folder: PathBuf,
    /// Where the calling process was.
    home: PathBuf,
}

impl Throttle {
    /// Lets members write `per_second` times a second to `device`, and puts the calling process and
    /// so all that it starts into it. `None`: this host or user cannot.
    pub fn new(device: &Path, per_second: u32) -> Option<Self> {
        let numbers = std::fs::metadata(device).ok()?.rdev();
        let (major, minor) = (nix::sys::stat::major(numbers), nix::sys::stat::minor(numbers));
        let name = format!("bulkhead-throttle-{}", std::process::id());
        let v1 = Path::new(V1).is_dir();
        let home = PathBuf::from(if v1 { V1 } else { V2 });
        let folder = home.join(name);
        std::fs::create_dir(&folder).ok()?;
        let throttle = Self { folder, home };
        let limit = if v1 {
            ("blkio.throttle.write_iops_device", format!("{major}:{minor} {per_second}"))
        } else {
            ("io.max", format!("{major}:{minor} wiops={per_second}"))
        };
        std::fs::write(throttle.folder.join(limit.0), limit.1).ok()?;
        enter(&throttle.folder).ok()?;
        Some(throttle)
    }
}

fn enter(folder: &Path) -> io::Result<()> {
    std::fs::write(folder.join("cgroup.procs"), std::process::id().to_string())
}

impl Drop for Throttle {
    fn drop(&mut self) {
        let _ = enter(&self.home);
        let _ = std::fs::remove_dir(&self.folder);
    }
}
