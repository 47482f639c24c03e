//! The machine's board without a core process: what a kernel needs to boot to its serial port.

use std::sync::Arc;

use bulkhead_hypervisor::Vm;
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

pub type Failure = Box<dyn std::error::Error>;

pub struct Board {
    pub pio: Arc<Bus>,
    pub mmio: Arc<Bus>,
    pub ioapic: Arc<Ioapic>,
    pub uart: Arc<Uart>,
}

fn place(bus: &Bus, first: u64, len: u64, device: Arc<dyn BusDevice>) -> Result<(), Failure> {
    Ok(bus.claim(BusRange::new(first, len).ok_or("no range")?, device)?)
}

pub fn board(vm: Arc<dyn Vm>, requests: &Requests) -> Result<Board, Failure> {
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
