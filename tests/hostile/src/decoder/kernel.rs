//! Kernels and initial RAM disks: a file that lies about itself is refused or lands in guest memory.

use std::fs::File;
use std::io::Write;

use bulkhead_boot::{Boot, load};
use bulkhead_hypervisor::x86_64::VcpuState;
use bulkhead_memory::{GuestMemory, RamLayout};
use bulkhead_sys::memfd::create_sealed;

use super::{Verdict, guest};
use crate::draw::Draw;

const RAM: u64 = 32 << 20;
const FIRST_MIB: u64 = 1 << 20;

thread_local! {
    /// Used again and again, as after a reset: loading does not rely on fresh memory.
    static MEMORY: (GuestMemory, RamLayout) = guest::ram(RAM);
}

/// Length of the initial RAM disk (0: none) and of the command line, then the kernel.
pub fn run(bytes: &[u8]) -> Verdict {
    let mut draw = Draw::new(bytes);
    let initrd_len = usize::from(draw.byte());
    let command_line = "x".repeat(usize::from(draw.byte()) * 16);
    let initrd = file(draw.bytes(initrd_len));
    let kernel = file(draw.rest());
    MEMORY.with(|(memory, layout)| {
        let boot = Boot {
            kernel: &kernel,
            initrd: (initrd_len > 0).then_some(&initrd),
            command_line: &command_line,
            memory,
            layout,
            cpus: 2,
            breathe: &|| {},
        };
        let loaded = load(&boot);
        match &loaded {
            Ok(entry) => {
                assert!((FIRST_MIB..RAM).contains(&entry.instruction()));
                entry.apply(&mut VcpuState::default());
            }
            Err(refusal) => assert!(!refusal.to_string().contains('\n'), "one line for the user"),
        }
        Verdict::of(&loaded)
    })
}

fn file(bytes: &[u8]) -> File {
    let object = create_sealed("file", bytes.len() as u64).expect("a memory object");
    let mut file = File::from(object);
    file.write_all(bytes).expect("room for its own length");
    file
}

/// A small ELF with a PVH note, and a small bzImage, each with an initial RAM disk.
pub fn samples() -> Vec<Vec<u8>> {
    let files = [bulkhead_harness::kernel::pvh(&[0xf4; 64]), bzimage()];
    files.map(|kernel| [&[2, 1, b'r', b'd'], &kernel[..]].concat()).to_vec()
}

/// One sector of setup code behind the first, then the 64-bit part (Linux' boot protocol, 2.15).
fn bzimage() -> Vec<u8> {
    const CODE: usize = 0x400;
    let mut file = vec![0; 2 * 512];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x1f4, &(CODE as u32 / 16).to_le_bytes());
    put(0x1fe, &0xaa55u16.to_le_bytes());
    put(0x202, b"HdrS");
    put(0x206, &0x020fu16.to_le_bytes());
    put(0x211, &[1]);
    put(0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(0x236, &1u16.to_le_bytes());
    put(0x238, &2047u32.to_le_bytes());
    put(0x258, &0x100_0000u64.to_le_bytes());
    put(0x260, &0x10_0000u32.to_le_bytes());
    file.extend([0xcc; CODE]);
    file
}
