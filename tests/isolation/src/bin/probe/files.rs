//! Files: anything of the host's file system, and anything that could be put into the empty root.

use std::mem::MaybeUninit;

use crate::Attempt;
use crate::call::sys;
use crate::scene::{Loot, Scene, at, nothing, number, of, read};

pub const ATTEMPTS: &[(&str, Attempt)] = &[
    ("open", |_| open_read(c"/etc/passwd")),
    ("open by dots", |_| open_read(c"../../../../../../../../etc/passwd")),
    ("open by proc/1/root", |_| open_read(c"/proc/1/root/etc/passwd")),
    ("open itself", |_| open_read(c"/proc/self/exe")),
    ("openat", |_| read(openat(AT_FDCWD, c"/etc/passwd", libc::O_RDONLY)?)),
    ("openat2", openat2),
    ("reopen for writing", reopen_for_writing),
    ("write own text", write_own_text),
    ("open by handle", open_by_handle),
    ("openat inherited directory", |scene| {
        read(openat(scene.directory(), c"secret", libc::O_RDONLY)?)
    }),
    ("openat above inherited directory", |scene| {
        read(openat(scene.directory(), c"../../../../etc/passwd", libc::O_RDONLY)?)
    }),
    ("chroot out", chroot_out),
    ("fchdir inherited directory", |scene| {
        sys(libc::SYS_fchdir, [scene.directory()])?;
        open_read(c"secret")
    }),
    ("mount tmpfs", |_| mount(c"tmpfs").and_then(|()| create(c"/x"))),
    ("mount proc", |_| mount(c"proc").and_then(|()| open_read(c"/1/status"))),
    ("clone a mount tree", clone_mount_tree),
    ("fsopen proc", fsopen_proc),
    ("unmount the root", |_| number(sys(libc::SYS_umount2, [at(c"/"), libc::MNT_DETACH as u64]))),
    ("pivot back", |_| number(sys(libc::SYS_pivot_root, [at(c"."), at(c".")]))),
    ("make a device", make_device),
    ("create in the root", |_| create(c"/x")),
    ("make a directory", |_| number(sys(libc::SYS_mkdir, [at(c"/x"), 0o700]))),
    ("link an inherited file", link_inherited),
    ("symlink", |_| number(sys(libc::SYS_symlink, [at(c"/etc/passwd"), at(c"/x")]))),
    ("rename in an inherited directory", |scene| {
        let directory = scene.directory();
        number(sys(libc::SYS_renameat, [directory, at(c"victim"), directory, at(c"gone")]))
    }),
    ("unlink in an inherited directory", |scene| {
        number(sys(libc::SYS_unlinkat, [scene.directory(), at(c"victim"), 0]))
    }),
    ("inotify", inotify),
    ("fanotify", |_| number(sys(libc::SYS_fanotify_init, [0, 0]))),
    ("statx", statx),
    ("chmod inherited file", |scene| {
        number(sys(libc::SYS_fchmod, [scene.read_only_file(), 0o777]))
    }),
    ("truncate inherited file", |scene| {
        number(sys(libc::SYS_ftruncate, [scene.read_only_file(), 0]))
    }),
    ("write read-only file", |scene| {
        number(sys(libc::SYS_write, [scene.read_only_file(), at(c"hacked"), 6]))
    }),
];

const AT_FDCWD: u64 = libc::AT_FDCWD as u64;

fn openat(directory: u64, path: &std::ffi::CStr, flags: i32) -> std::io::Result<u64> {
    sys(libc::SYS_openat, [directory, at(path), flags as u64, 0o600])
}

fn open_read(path: &std::ffi::CStr) -> Loot {
    read(sys(libc::SYS_open, [at(path), libc::O_RDONLY as u64])?)
}

fn create(path: &std::ffi::CStr) -> Loot {
    number(openat(AT_FDCWD, path, libc::O_CREAT | libc::O_RDWR))
}

fn openat2(_: &Scene) -> Loot {
    let mut how = [0u64; 3];
    read(sys(libc::SYS_openat2, [AT_FDCWD, at(c"/etc/passwd"), of(&mut how), 24])?)
}

fn reopen_for_writing(scene: &Scene) -> Loot {
    let path = format!("/proc/self/fd/{}\0", scene.read_only_file());
    let fd = sys(libc::SYS_open, [path.as_ptr() as u64, libc::O_RDWR as u64])?;
    number(sys(libc::SYS_write, [fd, at(c"hacked"), 6]))
}

fn write_own_text(_: &Scene) -> Loot {
    let fd = sys(libc::SYS_open, [at(c"/proc/self/mem"), libc::O_RDWR as u64])?;
    let text = write_own_text as *const () as u64;
    number(sys(libc::SYS_pwrite64, [fd, at(c"\x90"), 1, text]))
}

fn open_by_handle(scene: &Scene) -> Loot {
    // struct file_handle: bytes, type, then the handle.
    let mut handle = [0u32; 34];
    handle[0] = 128;
    let mut mount = 0u32;
    let directory = scene.directory();
    sys(
        libc::SYS_name_to_handle_at,
        [directory, at(c"secret"), of(&mut handle), of(&mut mount), 0],
    )?;
    read(sys(libc::SYS_open_by_handle_at, [directory, of(&mut handle), 0])?)
}

fn chroot_out(scene: &Scene) -> Loot {
    sys(libc::SYS_chroot, [at(c"/")])?;
    sys(libc::SYS_fchdir, [scene.directory()])?;
    for _ in 0..32 {
        sys(libc::SYS_chdir, [at(c"..")])?;
    }
    sys(libc::SYS_chroot, [at(c".")])?;
    open_read(c"/etc/passwd")
}

fn mount(kind: &std::ffi::CStr) -> std::io::Result<()> {
    sys(libc::SYS_mount, [at(c"none"), at(c"/"), at(kind), 0, 0]).map(drop)
}

fn clone_mount_tree(scene: &Scene) -> Loot {
    // OPEN_TREE_CLONE and AT_EMPTY_PATH, then MOVE_MOUNT_F_EMPTY_PATH of linux/mount.h.
    let empty = libc::AT_EMPTY_PATH as u64;
    let tree = sys(libc::SYS_open_tree, [scene.directory(), at(c""), 1 | empty])?;
    sys(libc::SYS_move_mount, [tree, at(c""), AT_FDCWD, at(c"/"), 4])?;
    open_read(c"/secret")
}

fn fsopen_proc(_: &Scene) -> Loot {
    const FSCONFIG_CMD_CREATE: u64 = 6;
    let context = sys(libc::SYS_fsopen, [at(c"proc"), 0])?;
    sys(libc::SYS_fsconfig, [context, FSCONFIG_CMD_CREATE, 0, 0, 0])?;
    let mount = sys(libc::SYS_fsmount, [context, 0, 0])?;
    read(openat(mount, c"1/status", libc::O_RDONLY)?)
}

fn make_device(_: &Scene) -> Loot {
    let memory = libc::makedev(1, 1);
    sys(libc::SYS_mknod, [at(c"/mem"), u64::from(libc::S_IFCHR) | 0o600, memory])?;
    open_read(c"/mem")
}

fn link_inherited(scene: &Scene) -> Loot {
    let flags = libc::AT_EMPTY_PATH as u64;
    let file = scene.read_only_file();
    number(sys(libc::SYS_linkat, [file, at(c""), AT_FDCWD, at(c"/x"), flags]))
}

fn inotify(_: &Scene) -> Loot {
    let fd = sys(libc::SYS_inotify_init1, [0])?;
    number(sys(libc::SYS_inotify_add_watch, [fd, at(c"/"), libc::IN_ALL_EVENTS.into()]))
}

fn statx(_: &Scene) -> Loot {
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    sys(libc::SYS_statx, [AT_FDCWD, at(c"/etc/passwd"), 0, 0x7ff, of(&mut found)])?;
    // SAFETY: plain numbers, zeroed before the kernel wrote to them.
    let found = unsafe { found.assume_init() };
    if found.stx_size == 0 { Err(nothing()) } else { Ok(found.stx_size.to_le_bytes().to_vec()) }
}
