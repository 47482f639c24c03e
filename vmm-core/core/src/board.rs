//! The board: all devices of the machine but the virtio ones, on their buses.

use std::sync::Arc;

use bulkhead_hypervisor::Vm;
use bulkhead_machine::bus::{Bus, BusDevice, BusRange, RangeTaken};
use bulkhead_machine::debug_exit::{DEBUG_EXIT_LEN, DebugExit};
use bulkhead_machine::ioapic::Ioapic;
use bulkhead_machine::irq::IrqLine;
use bulkhead_machine::layout;
use bulkhead_machine::pci::host::{ConfigAddress, ConfigData, ConfigPorts, ECAM_LEN, Ecam};
use bulkhead_machine::pci::{HostBridge, PciHost, PlugError};
use bulkhead_machine::pm_timer::PmTimer;
use bulkhead_machine::power::{Power, PowerBlock, PowerPort};
use bulkhead_machine::request::Requests;
use bulkhead_machine::reset::{KeyboardReset, ResetRegister};
use bulkhead_machine::rtc::Rtc;
use bulkhead_machine::uart::{Uart, Wake};

/// The layout contradicts itself (Bug).
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// Two devices at one place.
    #[error(transparent)]
    Taken(#[from] RangeTaken),
    /// The host bridge has no slot.
    #[error(transparent)]
    Plug(#[from] PlugError),
    /// A place that is empty or wraps.
    #[error("bug: {len:#x} addresses at {first:#x} are no range")]
    NoRange {
        /// First address.
        first: u64,
        /// Length.
        len: u64,
    },
}

/// The board.
pub struct Board {
    /// Ports.
    pub pio: Arc<Bus>,
    /// Addresses where no RAM is.
    pub mmio: Arc<Bus>,
    /// Interrupt controller.
    pub ioapic: Arc<Ioapic>,
    /// First serial port.
    pub uart: Arc<Uart>,
    /// Power management.
    pub power: Arc<Power>,
    /// PCI.
    pub pci: Arc<PciHost>,
}

impl Board {
    /// Puts everything in its place. `wake` drains and feeds the UART, `requests` hears what the guest
    /// asks for.
    pub fn new(vm: Arc<dyn Vm>, wake: Wake, requests: &Requests) -> Result<Self, BoardError> {
        let (pio, mmio) = (Bus::new(), Bus::new());
        let ioapic = Ioapic::new(vm);
        let uart = Uart::new(IrqLine::new(&ioapic, layout::COM1_PIN), wake);
        let power = Power::new(IrqLine::new(&ioapic, layout::SCI_PIN), Arc::clone(requests));
        let window = range(layout::PCI_LOW_WINDOW, layout::PCI_LOW_WINDOW_LEN)?;
        let pci = PciHost::new(Arc::clone(&mmio), window);
        pci.plug(Arc::new(HostBridge::new()))?;
        let board = Self { pio, mmio, ioapic, uart, power, pci };
        board.place_pci()?;
        board.place_power(requests)?;
        place(&board.mmio, layout::IOAPIC, layout::IOAPIC_LEN, board.ioapic.clone())?;
        place(&board.pio, layout::COM1, layout::COM1_LEN.into(), board.uart.clone())?;
        place(&board.pio, layout::RTC, 2, Arc::new(Rtc::of_host()))?;
        Ok(board)
    }

    fn place_pci(&self) -> Result<(), BoardError> {
        let ports = Arc::<ConfigPorts>::default();
        let host = || Arc::clone(&self.pci);
        place(&self.mmio, layout::ECAM, ECAM_LEN, Arc::new(Ecam(host())))?;
        place(
            &self.pio,
            layout::PCI_CONFIG_ADDRESS,
            1,
            Arc::new(ConfigAddress(Arc::clone(&ports))),
        )?;
        place(&self.pio, layout::PCI_CONFIG_DATA, 4, Arc::new(ConfigData { ports, host: host() }))
    }

    fn place_power(&self, requests: &Requests) -> Result<(), BoardError> {
        let port = |block| Arc::new(PowerPort(Arc::clone(&self.power), block));
        place(&self.pio, layout::PM1_EVENT, 4, port(PowerBlock::Events))?;
        place(&self.pio, layout::PM1_CONTROL, 2, port(PowerBlock::Control))?;
        place(&self.pio, layout::GPE0, layout::GPE0_LEN.into(), port(PowerBlock::GeneralEvents))?;
        place(&self.pio, layout::PM_TIMER, 4, Arc::new(PmTimer::new()))?;
        place(&self.pio, layout::RESET, 1, Arc::new(ResetRegister(Arc::clone(requests))))?;
        let keyboard = Arc::new(KeyboardReset::new(Arc::clone(requests)));
        place(&self.pio, layout::KEYBOARD_COMMAND, 1, keyboard)
    }

    /// Adds the port by which a test kernel ends its machine; somebody else's is an error.
    pub fn add_debug_exit(&self, port: u16, requests: &Requests) -> Result<(), BoardError> {
        place(&self.pio, port, DEBUG_EXIT_LEN, Arc::new(DebugExit(Arc::clone(requests))))
    }

    /// As at power-on. No vCPU may be running. The clock goes on: a battery would keep it.
    pub fn reset(&self) {
        self.pci.reset();
        self.power.reset();
        self.uart.reset();
        self.ioapic.reset();
    }
}

fn range(first: u64, len: u64) -> Result<BusRange, BoardError> {
    BusRange::new(first, len).ok_or(BoardError::NoRange { first, len })
}

fn place(
    bus: &Bus,
    first: impl Into<u64>,
    len: u64,
    device: Arc<dyn BusDevice>,
) -> Result<(), BoardError> {
    Ok(bus.claim(range(first.into(), len)?, device)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_hypervisor::recorder::Recorder;

    fn board() -> Board {
        Board::new(Recorder::new(), Arc::new(|| {}), &(Arc::new(|_| {}) as Requests)).unwrap()
    }

    #[test]
    fn every_device_answers_where_the_layout_says() {
        let board = board();
        let mut id = [0; 4];
        board.mmio.read(layout::ECAM, &mut id);
        assert_eq!(id, [0x36, 0x1b, 0x08, 0x00], "host bridge");
        let idle = |port: u16| {
            let mut data = [0xff];
            board.pio.read(port.into(), &mut data);
            data[0]
        };
        assert_eq!(idle(layout::COM1 + 5), 0x60, "UART: transmitter empty");
        assert_eq!(idle(layout::KEYBOARD_COMMAND), 0, "keyboard controller: not busy");
        assert_eq!(idle(layout::PM1_CONTROL), 1, "ACPI is on");
        assert_eq!(idle(0x80), 0xff, "nobody");
    }

    #[test]
    fn the_debug_exit_port_takes_nobodys_place() {
        let board = board();
        let requests: Requests = Arc::new(|_| {});
        assert!(board.add_debug_exit(0xf4, &requests).is_ok());
        for taken in [layout::COM1, layout::COM1 - 3, 0xf4, 0xf7] {
            assert!(board.add_debug_exit(taken, &requests).is_err(), "{taken:#x}");
        }
    }

    #[test]
    fn a_reset_board_is_a_fresh_board() {
        let board = board();
        board.pio.write((layout::COM1 + 1).into(), &[2]);
        board.reset();
        let mut enabled = [0xff];
        board.pio.read((layout::COM1 + 1).into(), &mut enabled);
        assert_eq!(enabled, [0]);
    }
}
