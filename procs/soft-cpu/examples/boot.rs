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
use bulkhead_hypervisor::{Exit, Hypervisor, Vm};
use bulkhead_machine::bus::{Bus, BusDevice, BusRange};
use bulkhead_machine::ioapic::Ioapic;
use bulkhead_machine::irq::IrqLine;
use bulkhead_machine::layout;
use bulkhead_machine::pci::host::{ConfigAddress, ConfigData, ConfigPorts, ECAM_LEN, Ecam};
use bulkhead_machine::pci::{HostBridge, PciHost};
use bulkhead_machine::pm_timer::PmTimer;
use bulkhead_machine::power::{Power, PowerBlock, PowerPort};
use bulkhead_machine::request::Requests;
use bulkhead_machine::reset::{KeyboardReset, ResetRegister};
use bulkhead_machine::rtc::Rtc;
use bulkhead_machine::uart::Uart;
use bulkhead_memory::{Grant, RamLayout, Rights};
use bulkhead_soft_cpu::Soft;

type Failure = Box<dyn std::error::Error>;

struct Board {
    pio: Arc<Bus>,
    mmio: Arc<Bus>,
    ioapic: Arc<Ioapic>,
    uart: Arc<Uart>,
}

fn place(bus: &Bus, first: u64, len: u64, device: Arc<dyn BusDevice>) -> Result<(), Failure> {
    Ok(bus.claim(BusRange::new(first, len).ok_or("no range")?, device)?)
}

fn board(vm: Arc<dyn Vm>, requests: &Requests) -> Result<Board, Failure> {
    let (pio, mmio) = (Bus::new(), Bus::new());
    let ioapic = Ioapic::new(vm);
    let uart = Uart::new(IrqLine::new(&ioapic, layout::COM1_PIN), Arc::new(|| {}));
    let power = Power::new(IrqLine::new(&ioapic, layout::SCI_PIN), Arc::clone(requests));
    let window = BusRange::new(layout::PCI_LOW_WINDOW, layout::PCI_LOW_WINDOW_LEN);
    let pci = PciHost::new(Arc::clone(&mmio), window.ok_or("no window")?);
    pci.plug(Arc::new(HostBridge::new()))?;
    let ports = Arc::<ConfigPorts>::default();
    place(&mmio, layout::ECAM, ECAM_LEN, Arc::new(Ecam(Arc::clone(&pci))))?;
    let address = Arc::new(ConfigAddress(Arc::clone(&ports)));
    place(&pio, layout::PCI_CONFIG_ADDRESS.into(), 1, address)?;
    let data = Arc::new(ConfigData { ports, host: pci });
    place(&pio, layout::PCI_CONFIG_DATA.into(), 4, data)?;
    let port = |block| Arc::new(PowerPort(Arc::clone(&power), block));
    place(&pio, layout::PM1_EVENT.into(), 4, port(PowerBlock::Events))?;
    place(&pio, layout::PM1_CONTROL.into(), 2, port(PowerBlock::Control))?;
    place(&pio, layout::GPE0.into(), layout::GPE0_LEN.into(), port(PowerBlock::GeneralEvents))?;
    place(&pio, layout::PM_TIMER.into(), 4, Arc::new(PmTimer::new()))?;
    place(&pio, layout::RESET.into(), 1, Arc::new(ResetRegister(Arc::clone(requests))))?;
    let keyboard = Arc::new(KeyboardReset::new(Arc::clone(requests)));
    place(&pio, layout::KEYBOARD_COMMAND.into(), 1, keyboard)?;
    place(&mmio, layout::IOAPIC, layout::IOAPIC_LEN, ioapic.clone())?;
    place(&pio, layout::COM1.into(), layout::COM1_LEN.into(), uart.clone())?;
    place(&pio, layout::RTC.into(), 2, Arc::new(Rtc::of_host()))?;
    Ok(Board { pio, mmio, ioapic, uart })
}

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
