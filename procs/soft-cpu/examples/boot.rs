//! Boots a kernel on the software CPU in this process, with the machine's serial port on stdin and
//! stdout: for finding out whether a fault is the engine's own.
//!
//! `boot CPUS MEBIBYTES KERNEL INITRD|- COMMAND-LINE [MARKER]`: ends when the guest switches off, resets
//! or crashes, when it has printed the marker, or after `LIMIT` seconds (environment). `JIT=on` compiles.
//! Figures go to stderr.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bulkhead_boot::Boot;
use bulkhead_hypervisor::{Exit, Hypervisor, Kick, Vcpu};
use bulkhead_machine::request::Requests;
use bulkhead_memory::{Grant, RamLayout, Rights};
use bulkhead_soft_cpu::{Compiling, Soft};

#[path = "../tests/boot/board.rs"]
mod board;

use board::{Board, Failure, board};

/// What all threads share.
struct Stage {
    board: Board,
    over: Arc<AtomicBool>,
    exits: AtomicU64,
    /// The last of what the guest has printed.
    seen: Mutex<Vec<u8>>,
    marker: Option<String>,
}

impl Stage {
    fn print(&self) -> Result<(), Failure> {
        let mut seen = self.seen.lock().map_err(|_| "a thread has died")?;
        self.board.uart.drain(|bytes| {
            seen.extend_from_slice(bytes);
            let mut out = std::io::stdout();
            out.write_all(bytes)?;
            out.flush()?;
            Ok(bytes.len())
        });
        if let Some(marker) = &self.marker
            && seen.windows(marker.len()).any(|part| part == marker.as_bytes())
        {
            eprintln!("\nboot: the marker came");
            self.over.store(true, Ordering::Relaxed);
        }
        let old = seen.len().saturating_sub(200);
        seen.drain(..old);
        Ok(())
    }

    fn answer(&self, exit: Exit<'_>) -> Result<(), Failure> {
        self.exits.fetch_add(1, Ordering::Relaxed);
        let Board { pio, mmio, ioapic, .. } = &self.board;
        match exit {
            Exit::PioIn { port, width, data } => {
                data.chunks_mut(width.into()).for_each(|data| pio.read(port.into(), data));
            }
            Exit::PioOut { port, width, data } => {
                data.chunks(width.into()).for_each(|data| pio.write(port.into(), data));
                self.print()?;
            }
            Exit::MmioRead { address, data } => mmio.read(address, data),
            Exit::MmioWrite { address, data } => mmio.write(address, data),
            Exit::Eoi(vector) => ioapic.end_of_interrupt(vector),
            Exit::Interrupted => {}
            other => return Err(format!("{other:?}").into()),
        }
        Ok(())
    }

    fn run(&self, index: usize, vcpu: &mut dyn Vcpu) -> Result<(), Failure> {
        while !self.over.load(Ordering::Relaxed) {
            let exit = vcpu.run()?;
            if let Err(reason) = self.answer(exit) {
                eprintln!("\nboot: vCPU {index}: {reason}");
                self.over.store(true, Ordering::Relaxed);
            }
        }
        let state = vcpu.state()?;
        eprintln!("boot: vCPU {index} at {:#x}", state.regs.rip);
        Ok(())
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, cpus, mebibytes, kernel, initrd, append, marker @ ..] = &arguments[..] else {
        return Err("usage: boot CPUS MEBIBYTES KERNEL INITRD|- COMMAND-LINE [MARKER]".into());
    };
    let cpus: u8 = cpus.parse()?;
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
        cpus,
        breathe: &|| {},
    })?;
    let compiles = std::env::var("JIT").is_ok_and(|jit| jit == "on");
    let engine: Box<dyn Hypervisor> =
        if compiles { Box::new(Compiling::new(cpus)?) } else { Box::new(Soft) };
    let vm = engine.create_vm(&memory)?;
    let vcpus = (0..cpus).map(|index| vm.create_vcpu(index, cpus));
    let mut vcpus = vcpus.collect::<Result<Vec<_>, _>>()?;
    let kicks: Vec<Arc<dyn Kick>> = vcpus.iter().map(|vcpu| vcpu.kick_handle()).collect();
    let over = Arc::new(AtomicBool::new(false));
    let requested = Arc::clone(&over);
    let requests: Requests = Arc::new(move |request| {
        eprintln!("\nboot: the guest asks for {request:?}");
        requested.store(true, Ordering::Relaxed);
    });
    let stage = Arc::new(Stage {
        board: board(vm, &requests)?,
        over: Arc::clone(&over),
        exits: AtomicU64::new(0),
        seen: Mutex::default(),
        marker: marker.first().cloned(),
    });
    let mut state = vcpus[0].state()?;
    entry.apply(&mut state);
    vcpus[0].set_state(&state)?;
    let started = Instant::now();
    let threads = vcpus.into_iter().enumerate().map(|(index, mut vcpu)| {
        let stage = Arc::clone(&stage);
        std::thread::spawn(move || {
            if let Err(error) = stage.run(index, vcpu.as_mut()) {
                eprintln!("boot: vCPU {index}: {error}");
            }
        })
    });
    let threads: Vec<_> = threads.collect();
    type_into(&stage);
    let limit = std::env::var("LIMIT").map_or(Ok(3600), |limit| limit.parse())?;
    while !over.load(Ordering::Relaxed) && started.elapsed() < Duration::from_secs(limit) {
        std::thread::sleep(Duration::from_millis(10));
    }
    over.store(true, Ordering::Relaxed);
    kicks.iter().for_each(|kick| kick.kick());
    for thread in threads {
        thread.join().map_err(|_| "a vCPU's thread has died")?;
    }
    eprintln!("boot: {:?}, {} exits", started.elapsed(), stage.exits.load(Ordering::Relaxed));
    Ok(())
}

/// Passes stdin on to the guest.
fn type_into(stage: &Arc<Stage>) {
    let stage = Arc::clone(stage);
    std::thread::spawn(move || {
        let mut byte = [0];
        while let Ok(1) = std::io::stdin().read(&mut byte) {
            while stage.board.uart.input(&byte) == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
}
