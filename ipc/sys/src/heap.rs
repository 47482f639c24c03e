//! How malloc grows, fitted to a sealed process, and what happens when it can't.
//!
//! glibc gives each thread an arena of its own, which costs a mapping of 64 MiB of addresses and
//! some resident pages each, and needs `mprotect` to grow; and it gives each large block a mapping of
//! its own, which needs `mremap`. One heap in one piece needs `brk` alone, and `mmap` where the piece
//! cannot grow.
//!
//! Memory that is refused ends the process with a record and a status, as a panic does. Rust's own answer is
//! `abort()`, which makes calls that no filter allows: whoever ran out of memory, for a full host or an image
//! that asks for too much, would look like an attacker, and the second time there would be no successor.
//!
//! Absent on purpose: going on without the memory. Nobody here asks for some that may be refused.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Cursor, Write};

use crate::{process, readiness};

/// Exit status of a process that ran out of memory, the one of a panic.
const EXHAUSTED_STATUS: i32 = 101;

/// Makes all threads share one heap, large blocks included. To be called before the first thread is
/// made.
pub fn share_one() {
    for (option, value) in [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_MAX, 0)] {
        // SAFETY: sets a number of the allocator; a failure leaves it as it was.
        let _ = unsafe { libc::mallopt(option, value) };
    }
}

/// malloc, which is never refused: see the module.
struct Insistent;

#[global_allocator]
static HEAP: Insistent = Insistent;

// SAFETY: every block is the system allocator's, asked for and given back with the caller's own layout; a
// null pointer never comes back.
unsafe impl GlobalAlloc for Insistent {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is the one that is asked for.
        given(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        given(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the block came from `System`, by this layout.
        given(unsafe { System.realloc(block, layout, size) }, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `System`, by this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

fn given(block: *mut u8, bytes: usize) -> *mut u8 {
    if block.is_null() {
        exhausted(bytes);
    }
    block
}

/// The record, made without memory; lost where its reader left no room.
#[cold]
fn exhausted(bytes: usize) -> ! {
    let mut line = Cursor::new([0; 80]);
    let _ = writeln!(line, "memory is exhausted: {bytes} more bytes were wanted");
    let (text, len) = (line.get_ref(), line.position() as usize);
    let mut stderr = std::io::stderr();
    if readiness::is_writable(&stderr) {
        let _ = stderr.write_all(&text[..len]);
    }
    process::exit_group(EXHAUSTED_STATUS)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// The address space of the process that is to run out of it.
    const ROOM: u64 = 1 << 30;

    #[test]
    fn a_process_without_memory_says_so_and_leaves_by_its_status() {
        if std::env::var_os("EXHAUST").is_some() {
            let limit = nix::sys::resource::Resource::RLIMIT_AS;
            nix::sys::resource::setrlimit(limit, ROOM, ROOM).unwrap();
            let block = vec![1_u8; 2 * ROOM as usize];
            unreachable!("{} bytes", block.len());
        }
        let name = "heap::tests::a_process_without_memory_says_so_and_leaves_by_its_status";
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", name, "--nocapture"]).env("EXHAUST", "yes");
        let output = again.output().unwrap();
        assert_eq!(output.status.code(), Some(super::EXHAUSTED_STATUS), "{:?}", output.status);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = format!("memory is exhausted: {} more bytes were wanted", 2 * ROOM);
        assert!(words.contains(&said), "{words}");
    }
}
