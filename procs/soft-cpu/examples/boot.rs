//! Boots a kernel on the software CPU in this process, with the machine's serial port on stdout: for
//! finding out whether a fault is the engine's own.
//!
//! `boot MEBIBYTES KERNEL INITRD|- COMMAND-LINE [MARKER]`: ends when the guest switches off, resets or
//! crashes, or when it has printed the marker. Figures go to stderr.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bulkhead_boot::Boot;
use bulkhead_hypervisor::{Exit, Hypervisor};
use bulkhead_machine::request::Requests;
use bulkhead_memory::{Grant, RamLayout, Rights};
use bulkhead_soft_cpu::Soft;

#[path = "../tests/boot/board.rs"]
mod board;

use board::{Failure, board};

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, mebibytes, kernel, initrd, append, marker @ ..] = &arguments[..] else {
        return Err("usage: boot MEBIBYTES KERNEL INITRD|- COMMAND-LINE [MARKER]".into());
    };
    let layout = RamLayout::new(mebibytes.parse::<u64>()? << 20)?;
    let memfd = bulkhead_sys::memfd::create_sealed("ram", layout.total())?;
    let memory = Grant::whole(&layout, Rights::ReadWrite).map(&memfd)?;
    let initrd = (initrd != "-").then(|| File::open(initrd)).transpose()?;
    let entry = bulkhead_boot::load(&Boot {
        kernel: &File::open(kernel)?,
        initrd: initrd.as_ref(),
        command_line: append,
        memory: &memory,
        layout: &layout,
        cpus: 1,
        breathe: &|| {},
    })?;
    let vm = Soft.create_vm(&memory)?;
    let mut vcpu = vm.create_vcpu(0, 1)?;
    let over = Arc::new(AtomicBool::new(false));
    let requested = Arc::clone(&over);
    let requests: Requests = Arc::new(move |request| {
        eprintln!("\nboot: the guest asks for {request:?}");
        requested.store(true, Ordering::Relaxed);
    });
    let board = board(vm, &requests)?;
    let mut state = vcpu.state()?;
    entry.apply(&mut state);
    vcpu.set_state(&state)?;
    let started = Instant::now();
    let (mut exits, mut seen) = (0u64, Vec::new());
    if let Ok(seconds) = std::env::var("LIMIT") {
        let (seconds, over) = (seconds.parse()?, Arc::clone(&over));
        let kick = vcpu.kick_handle();
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_secs(seconds));
            over.store(true, Ordering::Relaxed);
            kick.kick();
        });
    }
    let out = Mutex::new(std::io::stdout());
    while !over.load(Ordering::Relaxed) {
        exits += 1;
        match vcpu.run()? {
            Exit::PioIn { port, width, data } => {
                data.chunks_mut(width.into()).for_each(|data| board.pio.read(port.into(), data));
            }
            Exit::PioOut { port, width, data } => {
                data.chunks(width.into()).for_each(|data| board.pio.write(port.into(), data));
                board.uart.drain(|bytes| {
                    seen.extend_from_slice(bytes);
                    let mut out = out.lock().map_err(|_| std::io::ErrorKind::Other)?;
                    out.write_all(bytes)?;
                    out.flush()?;
                    Ok(bytes.len())
                });
                if let [marker] = marker
                    && seen.windows(marker.len()).any(|part| part == marker.as_bytes())
                {
                    eprintln!("\nboot: the marker came");
                    break;
                }
                let old = seen.len().saturating_sub(200);
                seen.drain(..old);
            }
            Exit::MmioRead { address, data } => board.mmio.read(address, data),
            Exit::MmioWrite { address, data } => board.mmio.write(address, data),
            Exit::Eoi(vector) => board.ioapic.end_of_interrupt(vector),
            Exit::Interrupted => {}
            other => {
                eprintln!("\nboot: {other:?}");
                break;
            }
        }
    }
    let state = vcpu.state()?;
    eprintln!("boot: {:?}, {exits} exits, rip {:#x}", started.elapsed(), state.regs.rip);
    eprintln!("boot: {:x?}", state.regs);
    Ok(())
}
