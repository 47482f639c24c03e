use super::*;

pub(super) const IDENTITY: Identity = Identity {
    vendor: 0x1af4,
    device: 0x1042,
    revision: 1,
    class: ClassCode { class: 1, subclass: 0x80, interface: 0 },
    subsystem_vendor: 0x1af4,
    subsystem: 2,
};

fn space() -> ConfigSpace {
    let mut space = ConfigSpace::new(IDENTITY);
    space.add_bar(BarSpec { index: BarIndex::Zero, size: 0x4000 }).unwrap();
    space
}

fn read32(space: &ConfigSpace, offset: u16) -> u32 {
    let mut data = [0; 4];
    space.read(offset, &mut data);
    u32::from_le_bytes(data)
}

#[test]
fn a_function_says_who_it_is_and_cannot_be_made_to_say_otherwise() {
    let mut space = space();
    space.write(0, &[0xff; 4]);
    space.write(8, &[0xff; 4]);
    assert_eq!(read32(&space, 0), 0x1042_1af4);
    assert_eq!(read32(&space, 8), 0x0180_0001);
    assert_eq!(read32(&space, 0x2c), 0x0002_1af4);
}

#[test]
fn a_bar_tells_its_size_when_ones_are_written() {
    let mut space = space();
    space.write(0x10, &[0xff; 8]);
    assert_eq!(read32(&space, 0x10), 0xffff_c004);
    assert_eq!(read32(&space, 0x14), 0xffff_ffff);
    space.write(0x18, &[0xff; 4]);
    assert_eq!(read32(&space, 0x18), 0, "a BAR that is not there has no bits");
}

#[test]
fn a_bar_is_decoded_only_while_memory_space_is_on() {
    let mut space = space();
    space.write(0x10, &0xd000_0000u64.to_le_bytes());
    assert_eq!(space.decoded(BarIndex::Zero), None);
    space.write(0x04, &[2, 0]);
    assert_eq!(space.decoded(BarIndex::Zero), Some(0xd000_0000));
    space.write(0x10, &0u64.to_le_bytes());
    assert_eq!(space.decoded(BarIndex::Zero), None);
}

#[test]
fn capabilities_form_a_chain() {
    let mut space = space();
    let first = space.add_capability(0x09, &[0; 14]).unwrap();
    let second = space.add_capability(0x11, &[0; 10]).unwrap();
    assert_eq!((first, second), (0x40, 0x50));
    assert_eq!(read32(&space, 0x34) & 0xff, 0x40);
    assert_eq!(read32(&space, 0x40) & 0xffff, 0x5009);
    assert_eq!(read32(&space, 0x50) & 0xffff, 0x0011);
    assert_eq!(read32(&space, 0x04) >> 16 & 0x10, 0x10, "status says that there is a list");
}

#[test]
fn a_capability_that_does_not_fit_is_refused() {
    let mut space = space();
    assert_eq!(space.add_capability(9, &[0; 190]), Ok(0x40));
    assert_eq!(space.add_capability(9, &[0; 3]), Err(ConfigError::NoRoom(3)));
}

#[test]
fn the_msix_control_word_has_two_bits_that_a_driver_may_change() {
    let mut space = space();
    let place = MsixPlacement {
        vectors: 5,
        bar: BarIndex::Zero,
        table_offset: 0x2000,
        pending_offset: 0x3000,
    };
    let at = u16::from(space.add_msix(place).unwrap());
    space.write(at + 2, &[0xff, 0xff]);
    assert_eq!(space.msix_control(), Some(0xc004));
    assert_eq!(read32(&space, at + 4), 0x2000);
    assert_eq!(read32(&space, at + 8), 0x3000);
}

#[test]
fn a_reset_undoes_what_the_driver_wrote_but_not_what_firmware_did() {
    let mut space = space();
    space.place_bar(BarIndex::Zero, 0xc000_0000);
    space.write(0x04, &[6, 0]);
    space.write(0x10, &0xd000_0000u64.to_le_bytes());
    space.reset();
    assert!(!space.is_bus_master());
    assert_eq!(read32(&space, 0x10), 0xc000_0004);
}

#[test]
fn offsets_beyond_256_read_as_no_extended_capabilities() {
    let mut data = [0xff; 8];
    space().read(0xfc, &mut data);
    assert_eq!(data[4..], [0; 4]);
    space().read(0xfff, &mut data);
    assert_eq!(data, [0; 8]);
    space().write(0xfff, &[1; 8]);
}

#[test]
fn bars_have_sizes_that_can_be_decoded() {
    let mut space = space();
    for size in [0, 1, 2048, 0x3000, u64::MAX] {
        let bar = BarSpec { index: BarIndex::Two, size };
        assert_eq!(space.add_bar(bar), Err(ConfigError::BadBarSize(size)));
    }
}
