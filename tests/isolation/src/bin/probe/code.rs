//! Code: instructions that were not in the program, and processes that are not this one.

use std::io;

use crate::Attempt;
use crate::call::sys;
use crate::scene::{Loot, Scene, at, nothing, number, of};

pub const ATTEMPTS: &[(&str, Attempt)] = &[
    ("execve", |_| {
        let mut arguments = [at(c"sh"), 0];
        number(sys(libc::SYS_execve, [at(c"/bin/sh"), of(&mut arguments), 0]))
    }),
    ("execveat inherited program", |scene| execute(scene.program())),
    ("execveat a memory object", execute_memory),
    ("map writable and executable", |_| {
        let page = anonymous(RWX)?;
        put(page);
        call(page)
    }),
    ("map a memory object executable", |scene| {
        let (prot, shared) = (RX as u64, libc::MAP_SHARED as u64);
        call(sys(libc::SYS_mmap, [0, PAGE, prot, shared, scene.code(), 0])?)
    }),
    ("make text writable", make_text_writable),
    ("make heap executable", |_| {
        let page = anonymous(RW)?;
        put(page);
        sys(libc::SYS_mprotect, [page, PAGE, RX as u64])?;
        call(page)
    }),
    ("make heap executable by key", |_| {
        let page = anonymous(RW)?;
        put(page);
        sys(libc::SYS_pkey_mprotect, [page, PAGE, RX as u64, u64::MAX])?;
        call(page)
    }),
    ("attach executable segment", attach_executable),
    ("reading implies executing", reading_implies_executing),
    ("modify_ldt", modify_ldt),
    ("arch_prctl", |_| number(sys(libc::SYS_arch_prctl, [ARCH_SET_GS, PAGE]))),
    ("userfaultfd", |_| number(sys(libc::SYS_userfaultfd, [0]))),
    ("fork", |_| child(sys(libc::SYS_fork, []))),
    ("vfork", |_| child(sys(libc::SYS_vfork, []))),
    ("clone", |_| child(sys(libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0, 0]))),
    ("clone3", |_| {
        let mut arguments = [0u64; 8];
        arguments[4] = libc::SIGCHLD as u64;
        child(sys(libc::SYS_clone3, [of(&mut arguments), 64]))
    }),
];

/// `mov eax, 42; ret`.
pub const FORTY_TWO: [u8; 6] = [0xb8, 42, 0, 0, 0, 0xc3];

const PAGE: u64 = 4096;
const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
const RX: i32 = libc::PROT_READ | libc::PROT_EXEC;
const RWX: i32 = RW | libc::PROT_EXEC;

/// `ARCH_SET_GS` of asm/prctl.h.
const ARCH_SET_GS: u64 = 0x1001;

fn anonymous(prot: i32) -> io::Result<u64> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    sys(libc::SYS_mmap, [0, PAGE, prot as u64, flags as u64, u64::MAX, 0])
}

fn put(page: u64) {
    // SAFETY: none. The page was just mapped writable.
    unsafe { std::ptr::copy_nonoverlapping(FORTY_TWO.as_ptr(), page as *mut u8, FORTY_TWO.len()) };
}

/// Runs what lies at an address: the proof that it is executable.
fn call(page: u64) -> Loot {
    // SAFETY: none. What is there is FORTY_TWO, or the process dies of trying.
    let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(page as *const ()) };
    Ok(function().to_le_bytes().to_vec())
}

fn child(result: io::Result<u64>) -> Loot {
    match result? {
        0 => bulkhead_runtime::exit(0),
        pid => Ok(pid.to_le_bytes().to_vec()),
    }
}

fn execute(program: u64) -> Loot {
    let mut arguments = [at(c"executed"), 0];
    let mut environment = [0u64];
    let flags = libc::AT_EMPTY_PATH as u64;
    number(sys(
        libc::SYS_execveat,
        [program, at(c""), of(&mut arguments), of(&mut environment), flags],
    ))
}

fn execute_memory(scene: &Scene) -> Loot {
    let memory = sys(libc::SYS_memfd_create, [at(c"x"), 0])?;
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let address = buffer.as_mut_ptr() as u64;
        let len = sys(libc::SYS_read, [scene.program(), address, buffer.len() as u64])?;
        if len == 0 {
            return execute(memory);
        }
        sys(libc::SYS_write, [memory, address, len])?;
    }
}

fn make_text_writable(_: &Scene) -> Loot {
    let text = make_text_writable as *const () as u64 & !(PAGE - 1);
    sys(libc::SYS_mprotect, [text, PAGE, RWX as u64])?;
    // SAFETY: none. Text can be read.
    let byte = unsafe { (text as *const u8).read_volatile() };
    // SAFETY: none. Writes back what is there, or dies of it.
    unsafe { (text as *mut u8).write_volatile(byte) };
    Ok(text.to_le_bytes().to_vec())
}

fn attach_executable(_: &Scene) -> Loot {
    let id = sys(libc::SYS_shmget, [0, PAGE, 0o1700])?;
    let page = sys(libc::SYS_shmat, [id, 0, libc::SHM_EXEC as u64])?;
    put(page);
    call(page)
}

fn reading_implies_executing(_: &Scene) -> Loot {
    sys(libc::SYS_personality, [libc::READ_IMPLIES_EXEC as u64])?;
    let page = anonymous(RW)?;
    put(page);
    call(page)
}

fn modify_ldt(_: &Scene) -> Loot {
    // struct user_desc of asm/ldt.h: entry 0, base 0, limit 0xfffff, 32 bits, in pages, usable.
    let mut entry = [0u32, 0, 0xf_ffff, 0b101_0001];
    let result = sys(libc::SYS_modify_ldt, [1, of(&mut entry), 16])?;
    if result as i32 == 0 { Ok(b"ldt".to_vec()) } else { Err(nothing()) }
}
