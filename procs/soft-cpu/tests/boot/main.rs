//! Debian's kernel boots on the software CPU to an init of ours, which greets and switches off.
//!
//! Where the kernel has not been fetched (packaging/fetch-kernel.sh) the test says so and passes.

mod archive;
mod board;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bulkhead_boot::Boot;
use bulkhead_hypervisor::{Exit, Hypervisor};
use bulkhead_machine::Request;
use bulkhead_machine::request::Requests;
use bulkhead_memory::{Grant, RamLayout, Rights};
use bulkhead_soft_cpu::Soft;

/// What the init prints.
const GREETING: &str = "init runs on the software CPU\n";

#[test]
fn debians_kernel_boots_to_its_init_and_switches_off() {
    let kernel = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guest/vmlinux");
    let Ok(kernel) = File::open(kernel) else {
        eprintln!("skipped: no kernel in target/guest");
        return;
    };
    let archive = archive::of_init(GREETING);
    let initrd = bulkhead_sys::memfd::create_sealed("initrd", archive.len() as u64).unwrap();
    let mut initrd = File::from(initrd);
    initrd.write_all(&archive).unwrap();

    let layout = RamLayout::new(256 << 20).unwrap();
    let memfd = bulkhead_sys::memfd::create_sealed("ram", layout.total()).unwrap();
    let memory = Grant::whole(&layout, Rights::ReadWrite).map(&memfd).unwrap();
    let entry = bulkhead_boot::load(&Boot {
        kernel: &kernel,
        initrd: Some(&initrd),
        command_line: "console=ttyS0 cryptomgr.notests panic=-1",
        memory: &memory,
        layout: &layout,
        cpus: 1,
        breathe: &|| {},
    })
    .unwrap();
    let vm = Soft.create_vm(&memory).unwrap();
    let mut vcpu = vm.create_vcpu(0, 1).unwrap();
    let off = Arc::new(AtomicBool::new(false));
    let requested = Arc::clone(&off);
    let requests: Requests = Arc::new(move |request| {
        assert_eq!(request, Request::PowerOff);
        requested.store(true, Ordering::Relaxed);
    });
    let board = board::board(vm, &requests).unwrap();
    let mut state = vcpu.state().unwrap();
    entry.apply(&mut state);
    vcpu.set_state(&state).unwrap();
    let mut console = Vec::new();
    while !off.load(Ordering::Relaxed) {
        match vcpu.run().unwrap() {
            Exit::PioIn { port, data, .. } => board.pio.read(port.into(), data),
            Exit::PioOut { port, data, .. } => {
                board.pio.write(port.into(), data);
                board.uart.drain(|bytes| {
                    console.extend_from_slice(bytes);
                    Ok(bytes.len())
                });
            }
            Exit::MmioRead { address, data } => board.mmio.read(address, data),
            Exit::MmioWrite { address, data } => board.mmio.write(address, data),
            Exit::Eoi(vector) => board.ioapic.end_of_interrupt(vector),
            other => panic!("{other:?} after:\n{}", String::from_utf8_lossy(&console)),
        }
    }
    let console = String::from_utf8_lossy(&console);
    assert!(console.contains(GREETING.trim()), "{console}");
}
