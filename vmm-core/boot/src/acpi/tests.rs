use super::*;

const RAM: u64 = 5 << 30;

/// All tables, with what a guest needs to find its way.
struct Firmware(Vec<u8>);

impl Firmware {
    fn new(cpus: u8) -> Self {
        Self(tables(&RamLayout::new(RAM).unwrap(), cpus))
    }

    fn long(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn offset(address: u64) -> usize {
        usize::try_from(address - ACPI).unwrap()
    }

    /// The table at an address, checked as a guest checks it.
    fn table(&self, address: u64) -> &[u8] {
        let at = Self::offset(address);
        let len = self.word(at + 4) as usize;
        let table = &self.0[at..at + len];
        if &table[..4] != b"FACS" {
            assert_eq!(sum(table), 0, "{:?}", std::str::from_utf8(&table[..4]));
        }
        table
    }

    /// The tables that the root table names.
    fn roots(&self) -> Vec<&[u8]> {
        let root = self.table(self.long(24));
        assert_eq!(&root[..4], b"XSDT");
        let entries = root[36..].chunks_exact(8);
        entries.map(|entry| self.table(u64::from_le_bytes(entry.try_into().unwrap()))).collect()
    }

    fn named(&self, signature: &[u8; 4]) -> &[u8] {
        self.roots().into_iter().find(|table| &table[..4] == signature).unwrap()
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn field(table: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(table[at..at + 4].try_into().unwrap())
}

#[test]
fn a_guest_finds_every_table_and_every_checksum_is_right() {
    let firmware = Firmware::new(2);
    assert_eq!(&firmware.0[..8], b"RSD PTR ");
    assert_eq!((sum(&firmware.0[..20]), sum(&firmware.0[..36])), (0, 0));
    let names: Vec<_> = firmware.roots().iter().map(|table| table[..4].to_vec()).collect();
    assert_eq!(names, [b"FACP", b"APIC", b"MCFG"]);
    let fadt = firmware.named(b"FACP");
    assert_eq!(&firmware.table(field(fadt, 40).into())[..4], b"DSDT");
    let facs = u64::from(field(fadt, 36));
    assert_eq!(&firmware.table(facs)[..4], b"FACS");
    assert_eq!(facs % 64, 0);
}

#[test]
fn there_is_a_local_apic_per_processor_and_no_pic() {
    for cpus in [1, 16] {
        let firmware = Firmware::new(cpus);
        let madt = firmware.named(b"APIC");
        assert_eq!((field(madt, 36), field(madt, 40)), (0xfee0_0000, 0));
        let mut rest = &madt[44..];
        let mut kinds = Vec::new();
        while let [kind, len, ..] = *rest {
            kinds.push(kind);
            rest = &rest[usize::from(len)..];
        }
        let mut expected = vec![0; cpus.into()];
        expected.extend([1, 2]);
        assert_eq!(kinds, expected);
    }
}

#[test]
fn power_management_is_where_the_machine_has_it() {
    let firmware = Firmware::new(1);
    let fadt = firmware.named(b"FACP");
    assert_eq!(u16::from_le_bytes([fadt[46], fadt[47]]), 9);
    assert_eq!(field(fadt, 48), 0, "no SMI command: ACPI is always on");
    assert_eq!((field(fadt, 56), field(fadt, 64), field(fadt, 76)), (0x600, 0x604, 0x608));
    let flags = field(fadt, 112);
    assert_eq!(flags >> 10 & 1, 1, "reset register");
    assert_eq!(flags >> 20 & 1, 0, "not hardware-reduced");
    assert_eq!(flags >> 4 & 3, 3, "buttons are in the DSDT");
    assert_eq!((field(fadt, 120), fadt[128]), (0xcf9, 6));
}

#[test]
fn configuration_space_is_one_bus_at_the_window() {
    let firmware = Firmware::new(1);
    let mcfg = firmware.named(b"MCFG");
    assert_eq!(mcfg.len(), 60);
    assert_eq!(u64::from_le_bytes(mcfg[44..52].try_into().unwrap()), layout::ECAM);
    assert_eq!(mcfg[52..56], [0, 0, 0, 0]);
}

#[test]
fn the_devices_that_a_guest_cannot_discover_are_named() {
    let firmware = Firmware::new(16);
    let fadt = firmware.named(b"FACP");
    let dsdt = firmware.table(field(fadt, 40).into());
    for name in ["PCI0", "COM1", "RTC_", "PWRB", "SLPB", "_S5_", "_E00", "_E01", "C000", "C00F"] {
        assert!(dsdt.windows(4).any(|window| window == name.as_bytes()), "{name}");
    }
    assert!(!dsdt.windows(4).any(|window| window == b"_PRT"));
}

#[test]
fn the_largest_machine_fits_its_room() {
    let largest = tables(&RamLayout::new(1 << 40).unwrap(), 16);
    assert!(largest.len() as u64 <= ACPI_ROOM);
}
