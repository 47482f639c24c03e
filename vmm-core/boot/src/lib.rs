//! Loading a kernel, and everything it expects to find in memory when it starts.
//!
//! ```text
//!  Image (open file) ── ELF with PVH note ──► segments, bss    ──► start_info  ──► 32-bit entry
//!                    ├─ bzImage           ──► protected-mode   ──► zero page   ──► 64-bit entry
//!                    └─ multiboot header  ──► segments, bss    ──► information ──► 32-bit entry
//!  initrd            ──► top of low memory
//!  command line, memory map, ACPI tables   ──► first MiB
//! ```
//!
//! Called by `core` before the first vCPU runs, and again after each reset. [`load`] writes guest
//! memory; the [`Entry`] that it returns is then applied to the boot vCPU's state.
//!
//! Law: kernel and initrd come as open files and every number in them is an allegation. They are read
//! by `pread` straight into guest memory and never mapped: a file that is truncated while it is read
//! is an error, not a SIGBUS. A refusal is one sentence for the user.
//!
//! Absent on purpose: firmware, the 16-bit and 32-bit Linux protocols, decompression (a bzImage
//! unpacks itself in the guest).
#![forbid(unsafe_code)]

mod acpi;
mod bzimage;
mod command_line;
mod elf;
mod entry;
mod error;
mod image;
mod initrd;
mod memory_map;
mod multiboot;
mod places;
mod segments;
mod start_info;
mod zero_page;

use std::fs::File;

use bulkhead_memory::{GuestMemory, RamLayout};

pub use entry::Entry;
pub use error::BootError;

use image::Image;
use segments::{Class, ElfFile};

/// What is to be booted on what.
pub struct Boot<'a> {
    /// The kernel.
    pub kernel: &'a File,
    /// The initial RAM disk.
    pub initrd: Option<&'a File>,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// All guest RAM.
    pub memory: &'a GuestMemory,
    /// Where it lies.
    pub layout: &'a RamLayout,
    /// How many vCPUs there are, 1 to 16.
    pub cpus: u8,
    /// Called again and again while files are read, which may take long.
    pub breathe: &'a dyn Fn(),
}

/// What loading a kernel told about it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Loaded {
    /// Where it starts.
    entry: u64,
    /// First byte of RAM that neither it nor what it unpacks to needs.
    end: u64,
    /// Last byte that an initrd may occupy.
    initrd_max: u64,
    /// Longest command line that it takes, without the terminating zero.
    command_line_max: usize,
    protocol: Protocol,
}

/// How it wants to be started.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Protocol {
    /// 32-bit entry with a start-info block.
    Pvh,
    /// 32-bit entry with multiboot information.
    Multiboot,
    /// 64-bit entry with a zero page, whose header the file provides.
    Linux64(linux_loader::bootparam::setup_header),
}

/// Fills guest memory; the boot vCPU is to start at the returned entry.
pub fn load(boot: &Boot<'_>) -> Result<Entry, BootError> {
    let low = boot.layout.low_len();
    if low < places::LEAST_RAM {
        return Err(BootError::TooLittleRam { ram: low, least: places::LEAST_RAM });
    }
    let kernel = Image::new(boot.kernel, "kernel", boot.breathe)?;
    let loaded = load_kernel(&kernel, boot.memory, low)?;
    let initrd = boot.initrd.map(|file| Image::new(file, "initrd", boot.breathe)).transpose()?;
    let initrd = initrd.map(|image| initrd::load(&image, boot.memory, low, &loaded)).transpose()?;
    let name = if loaded.protocol == Protocol::Multiboot { multiboot::NAME } else { "" };
    command_line::write(name, boot.command_line, boot.memory, loaded.command_line_max)?;
    acpi::write(boot.memory, boot.layout, boot.cpus)?;
    let map = memory_map::of(boot.layout);
    match &loaded.protocol {
        Protocol::Pvh => {
            start_info::write(boot.memory, &map, initrd)?;
            entry::prepare_pvh(boot.memory, loaded.entry)
        }
        Protocol::Multiboot => {
            multiboot::write(boot.memory, &map, low, initrd)?;
            entry::prepare_multiboot(boot.memory, loaded.entry)
        }
        Protocol::Linux64(header) => {
            zero_page::write(boot.memory, &map, initrd, header)?;
            entry::prepare_linux64(boot.memory, loaded.entry)
        }
    }
}

/// Finds out what the kernel is, and loads it. A kernel that has several entries is started by the one
/// that tells it most: Linux' own before multiboot's.
fn load_kernel(image: &Image<'_>, memory: &GuestMemory, low: u64) -> Result<Loaded, BootError> {
    let file = match segments::is_elf(image)? {
        true => Some(ElfFile::read(image)?),
        false => None,
    };
    let refusal = match &file {
        None => match bzimage::load(image, memory, low) {
            Err(BootError::NotAKernel) => BootError::NotAKernel,
            other => return other,
        },
        Some(file) if file.class == Class::Bits64 => match elf::load(image, file, memory, low) {
            Err(BootError::NoPvhNote) => BootError::NoPvhNote,
            other => return other,
        },
        Some(_) => BootError::NoMultiboot,
    };
    multiboot::load(image, file.as_ref(), memory, low)?.ok_or(refusal)
}

#[cfg(test)]
mod tests;
