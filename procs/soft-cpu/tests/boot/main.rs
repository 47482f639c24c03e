//! Debian's kernel boots on the software CPU to an init of ours, which greets and switches off.
//!
//! Where the kernel has not been fetched (packaging/fetch-kernel.sh) the test says so and passes.

mod archive;
mod board;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bulkhead_boot::Boot;
use bulkhead_hypervisor::{Exit, Hypervisor, Vcpu};
use bulkhead_machine::Request;
use bulkhead_machine::request::Requests;
use bulkhead_memory::{Grant, RamLayout, Rights};
use bulkhead_soft_cpu::{Compiling, Soft};

/// What the init prints.
const GREETING: &str = "init runs on the software CPU\n";

#[test]
fn debians_kernel_boots_to_its_init_and_switches_off() {
    let Some(console) = boot(&Soft, 1) else { return };
    assert!(console.contains(GREETING.trim()), "{console}");
}

#[test]
fn debians_kernel_brings_up_a_second_processor() {
    let Some(console) = boot(&Soft, 2) else { return };
    assert!(console.contains(GREETING.trim()), "{console}");
    assert!(console.contains("Brought up 1 node, 2 CPUs"), "{console}");
}

#[test]
fn debians_kernel_boots_compiled_with_two_processors() {
    let Some(console) = boot(&Compiling::new(2).unwrap(), 2) else { return };
    assert!(console.contains(GREETING.trim()), "{console}");
    assert!(console.contains("Brought up 1 node, 2 CPUs"), "{console}");
}

/// What all threads of a machine share.
struct Machine {
    board: board::Board,
    off: Arc<AtomicBool>,
    console: Mutex<Vec<u8>>,
}

impl Machine {
    fn run(&self, vcpu: &mut dyn Vcpu) {
        while !self.off.load(Ordering::Relaxed) {
            match vcpu.run().unwrap() {
                Exit::PioIn { port, data, .. } => self.board.pio.read(port.into(), data),
                Exit::PioOut { port, data, .. } => {
                    self.board.pio.write(port.into(), data);
                    let mut console = self.console.lock().unwrap();
                    self.board.uart.drain(|bytes| {
                        console.extend_from_slice(bytes);
                        Ok(bytes.len())
                    });
                }
                Exit::MmioRead { address, data } => self.board.mmio.read(address, data),
                Exit::MmioWrite { address, data } => self.board.mmio.write(address, data),
                Exit::Eoi(vector) => self.board.ioapic.end_of_interrupt(vector),
                Exit::Interrupted => {}
                other => {
                    let console = self.console.lock().unwrap();
                    panic!("{other:?} after:\n{}", String::from_utf8_lossy(&console));
                }
            }
        }
    }
}

/// Boots until the guest switches off; what it printed. `None`: there is no kernel.
fn boot(engine: &dyn Hypervisor, cpus: u8) -> Option<String> {
    let kernel = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guest/vmlinux");
    let Ok(kernel) = File::open(kernel) else {
        eprintln!("skipped: no kernel in target/guest");
        return None;
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
        cpus,
        breathe: &|| {},
    })
    .unwrap();
    let vm = engine.create_vm(&memory).unwrap();
    let mut vcpus: Vec<_> = (0..cpus).map(|index| vm.create_vcpu(index, cpus).unwrap()).collect();
    let kicks: Vec<_> = vcpus.iter().map(|vcpu| vcpu.kick_handle()).collect();
    let off = Arc::new(AtomicBool::new(false));
    let requested = Arc::clone(&off);
    let requests: Requests = Arc::new(move |request| {
        assert_eq!(request, Request::PowerOff);
        requested.store(true, Ordering::Relaxed);
        kicks.iter().for_each(|kick| kick.kick());
    });
    let board = board::board(vm, &requests).unwrap();
    let mut state = vcpus[0].state().unwrap();
    entry.apply(&mut state);
    vcpus[0].set_state(&state).unwrap();
    let machine = Machine { board, off, console: Mutex::default() };
    std::thread::scope(|scope| {
        for vcpu in &mut vcpus {
            scope.spawn(|| machine.run(vcpu.as_mut()));
        }
    });
    let console = machine.console.into_inner().unwrap();
    Some(String::from_utf8_lossy(&console).into_owned())
}
