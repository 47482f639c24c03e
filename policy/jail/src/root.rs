//! The empty root.
//!
//! A tmpfs without a file, mounted read-only from the start, becomes the root; the old one is
//! unmounted with everything below it. `pivot_root(".", ".")` stacks the old root upon the new one,
//! so that no folder is needed to put it.

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use crate::record::Step;

/// Where the new root is mounted for a moment: a folder that every host has, as the launcher needs
/// it.
const SITE: &str = "/proc";

const NONE: Option<&str> = None;

/// Makes the mount namespace private and its root empty.
pub fn empty() -> Result<(), (Step, Errno)> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(NONE, "/", NONE, private, NONE).map_err(at(Step::Private))?;
    let sealed = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("empty"), SITE, Some("tmpfs"), sealed, Some("size=4k,nr_inodes=2,mode=555"))
        .map_err(at(Step::MountRoot))?;
    chdir(SITE).map_err(at(Step::Pivot))?;
    pivot_root(".", ".").map_err(at(Step::Pivot))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(at(Step::Pivot))?;
    chdir("/").map_err(at(Step::Pivot))
}

fn at(step: Step) -> impl FnOnce(Errno) -> (Step, Errno) {
    move |errno| (step, errno)
}
