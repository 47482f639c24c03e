//! The DSDT: devices that cannot be discovered, in AML.
//!
//! PCI has no interrupt routing table: functions use MSI-X only.

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Memory32Fixed, Method,
    Name, Notify, Package, Path, ResourceTemplate, Scope,
};
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, AmlSink};
use bulkhead_machine::layout;
use bulkhead_machine::pci::host::ECAM_LEN;
use bulkhead_memory::RamLayout;

use super::{OEM, REVISION, TABLE, bytes_of};

/// "The button was pressed" (ACPI 6.5, 4.8.2.2.1.2).
const PRESSED: u8 = 0x80;

/// AML that is written already.
struct Raw(Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

/// The table.
pub(super) fn dsdt(layout: &RamLayout, cpus: u8) -> impl Aml + use<> {
    let mut table = Sdt::new(*b"DSDT", 36, 2, OEM, TABLE, REVISION);
    table.append_slice(&sleep_states());
    table.append_slice(&button_events());
    let mut children = vec![
        Raw(pci_host(layout)),
        Raw(board()),
        Raw(serial_port()),
        Raw(clock()),
        Raw(button("PWRB", "PNP0C0C")),
        Raw(button("SLPB", "PNP0C0E")),
    ];
    children.extend((0..cpus).map(|cpu| Raw(processor(cpu))));
    let children = children.iter().map(|child| child as &dyn Aml).collect();
    table.append_slice(&bytes_of(&Scope::new("_SB_".into(), children)));
    Raw(table.as_slice().to_vec())
}

/// S5 only: switched off.
fn sleep_states() -> Vec<u8> {
    let (off, none) = (&layout::SLEEP_TYPE_OFF, &0u8);
    bytes_of(&Name::new("_S5_".into(), &Package::new(vec![off, off, none, none])))
}

/// General purpose events (edge handlers) that notify the buttons.
fn button_events() -> Vec<u8> {
    let power = Notify::new(&Path::new("\\_SB_.PWRB"), &PRESSED).bytes();
    let sleep = Notify::new(&Path::new("\\_SB_.SLPB"), &PRESSED).bytes();
    let handler = |event: u8, body: &Raw| {
        Raw(bytes_of(&Method::new(format!("_E{event:02X}").as_str().into(), 0, false, vec![body])))
    };
    let power = handler(layout::GPE_POWER_BUTTON, &power);
    let sleep = handler(layout::GPE_SLEEP_BUTTON, &sleep);
    bytes_of(&Scope::new("_GPE".into(), vec![&power, &sleep]))
}

trait Bytes {
    fn bytes(&self) -> Raw;
}

impl<T: Aml> Bytes for T {
    fn bytes(&self) -> Raw {
        Raw(bytes_of(self))
    }
}

fn pci_host(layout: &RamLayout) -> Vec<u8> {
    let high = layout::pci_high_window(layout.high_len());
    let window = |first, len| {
        AddressSpace::new_memory(
            AddressSpaceCacheable::NotCacheable,
            true,
            first,
            first + len - 1,
            None,
        )
    };
    let resources = ResourceTemplate::new(vec![
        &AddressSpace::new_bus_number(0u16, 0u16),
        &IO::new(layout::PCI_CONFIG_ADDRESS, layout::PCI_CONFIG_ADDRESS, 1, 8),
        &window(layout::PCI_LOW_WINDOW, layout::PCI_LOW_WINDOW_LEN),
        &window(high, layout::PCI_HIGH_WINDOW_LEN),
    ])
    .bytes();
    bytes_of(&Device::new(
        "PCI0".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0A08")),
            &Name::new("_CID".into(), &EISAName::new("PNP0A03")),
            &Name::new("_SEG".into(), &0u8),
            &Name::new("_BBN".into(), &0u8),
            &Name::new("_UID".into(), &0u8),
            &Name::new("_CRS".into(), &resources),
        ],
    ))
}

/// What belongs to the board: nobody else may take these addresses.
fn board() -> Vec<u8> {
    let power_ports = layout::GPE0 + u16::from(layout::GPE0_LEN) - layout::PM1_EVENT;
    let resources = ResourceTemplate::new(vec![
        &Memory32Fixed::new(true, layout::ECAM as u32, ECAM_LEN as u32),
        &IO::new(layout::PM1_EVENT, layout::PM1_EVENT, 1, power_ports as u8),
    ])
    .bytes();
    bytes_of(&Device::new(
        "MBRD".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0C02")),
            &Name::new("_UID".into(), &0u8),
            &Name::new("_CRS".into(), &resources),
        ],
    ))
}

fn serial_port() -> Vec<u8> {
    let resources = ResourceTemplate::new(vec![
        &IO::new(layout::COM1, layout::COM1, 1, layout::COM1_LEN as u8),
        &Interrupt::new(true, true, false, false, layout::COM1_PIN.into()),
    ])
    .bytes();
    bytes_of(&Device::new(
        "COM1".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &0u8),
            &Name::new("_DDN".into(), &"COM1"),
            &Name::new("_CRS".into(), &resources),
        ],
    ))
}

/// The clock, without an interrupt.
fn clock() -> Vec<u8> {
    let resources = ResourceTemplate::new(vec![&IO::new(layout::RTC, layout::RTC, 1, 2)]).bytes();
    bytes_of(&Device::new(
        "RTC_".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0B00")),
            &Name::new("_CRS".into(), &resources),
        ],
    ))
}

fn button(name: &str, id: &str) -> Vec<u8> {
    bytes_of(&Device::new(name.into(), vec![&Name::new("_HID".into(), &EISAName::new(id))]))
}

fn processor(number: u8) -> Vec<u8> {
    bytes_of(&Device::new(
        format!("C{number:03X}").as_str().into(),
        vec![&Name::new("_HID".into(), &"ACPI0007"), &Name::new("_UID".into(), &number)],
    ))
}
