//! Guests that do what no driver may.

use super::*;
use proptest::prelude::*;

#[test]
fn features_that_were_not_offered_are_not_accepted() {
    let board = Board::new();
    for features in [OFFERED | 1 << 34, OFFERED | 1, 1 << 9, u64::MAX, 0] {
        board.acknowledge(features);
        assert_eq!(board.status(), 3, "{features:#x}");
        assert!(!board.enable(0), "no queue without features");
    }
    board.acknowledge(OFFERED);
    assert_eq!(board.status(), 11);
}

#[test]
fn features_are_frozen_once_they_are_accepted() {
    let board = Board::new();
    board.acknowledge(1 << 32);
    board.write::<4>(8, 0);
    board.write::<4>(12, 1 << 9);
    board.enable(0);
    board.write::<1>(STATUS, 15);
    match board.disk.take_demand() {
        Some(Demand::Run(activation)) => assert_eq!(activation.features, 1 << 32),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rings_are_frozen_once_their_queue_is_enabled_and_all_of_them_at_driver_ok() {
    let board = Board::new();
    board.acknowledge(OFFERED);
    board.enable(0);
    board.set_rings(0, 0x50000);
    board.write::<2>(0x18, 128);
    assert_eq!((board.read::<8>(0x20), board.read::<2>(0x18)), (0x10000, 256));
    board.write::<1>(STATUS, 15);
    board.set_rings(1, 0x50000);
    board.write::<2>(0x18, 128);
    board.write::<2>(0x1c, 1);
    let second = (board.read::<8>(0x20), board.read::<2>(0x18), board.read::<2>(0x1c));
    assert_eq!(second, (0, 256, 0));
    board.write::<2>(0x16, 0);
    board.write::<2>(0x1c, 0);
    assert_eq!(board.read::<2>(0x1c), 1, "only a reset disables");
}

#[test]
fn rings_outside_of_guest_memory_are_not_enabled() {
    let board = Board::new();
    board.acknowledge(OFFERED);
    for at in [RAM, RAM - 0x3000, 1 << 40, !0xffff, 8] {
        board.set_rings(0, at);
        board.write::<2>(0x1c, 1);
        assert_eq!(board.read::<2>(0x1c), 0, "{at:#x}");
    }
}

#[test]
fn a_queue_that_does_not_exist_has_no_size_and_takes_nothing() {
    let board = Board::new();
    board.acknowledge(OFFERED);
    for queue in [2, 255, 0xffff] {
        assert!(!board.enable(queue));
        board.write::<2>(0x18, 64);
        board.write::<2>(0x1a, 0);
        assert_eq!((board.read::<2>(0x18), board.read::<8>(0x20)), (0, 0));
    }
}

#[test]
fn writes_of_odd_widths_and_offsets_change_nothing() {
    let board = Board::new();
    board.acknowledge(OFFERED);
    let image = || (0..0x38).map(|at| board.read::<1>(at)).collect::<Vec<_>>();
    let before = image();
    let odd =
        [(0x14, 2), (0x13, 4), (0x20, 1), (0x22, 4), (0x21, 8), (0x18, 4), (0x36, 8), (0x37, 1)];
    for (offset, len) in odd {
        board.mmio.write(BAR_ADDRESS + offset, &[0; 8][..len]);
        board.mmio.write(BAR_ADDRESS + offset, &[1; 8][..len]);
    }
    assert_eq!(image(), before);
}

#[test]
fn many_vcpus_moving_one_vector_leave_it_connected_once() {
    let board = Board::new();
    for vector in 0..3 {
        board.arm(vector);
    }
    std::thread::scope(|scope| {
        for vcpu in 0..4 {
            let board = &board;
            scope.spawn(move || {
                for turn in 0..300 {
                    board.write::<2>(0x1a, (vcpu + turn) % 3);
                }
            });
        }
    });
    assert_eq!(board.vm.record().irqfds.len(), 1);
    board.write::<2>(0x1a, 0xffff);
    assert!(board.vm.record().irqfds.is_empty());
}

fn places() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => BAR_ADDRESS..BAR_ADDRESS + 0x40,
        2 => BAR_ADDRESS..BAR_ADDRESS + 0x8008,
        1 => BAR_ADDRESS + 0x4000..BAR_ADDRESS + 0x4040,
        2 => ECAM..ECAM + 0x100,
    ]
}

impl Board {
    /// Gets as far as it can, so that chance meets live devices, too.
    fn probe_blindly(&self) {
        self.decode();
        self.acknowledge(OFFERED);
        self.enable(0);
        self.write::<1>(STATUS, 15);
    }
}

proptest! {
    #[test]
    fn no_access_anywhere_panics_and_no_ring_outside_of_memory_is_ever_run(
        accesses in proptest::collection::vec((any::<bool>(), places(), any::<u64>(), 1..=8usize, any::<u8>()), 1..400),
    ) {
        let board = Board::new();
        for (write, address, value, len, event) in accesses {
            let mut data = value.to_le_bytes();
            match write {
                true => board.mmio.write(address, &data[..len]),
                false => board.mmio.read(address, &mut data[..len]),
            }
            match event {
                0..8 => board.disk.stopped(),
                8..16 => board.disk.config_changed(&[value as u8; 300]),
                16..18 => drop(board.disk.needs_reset()),
                18 => board.host.reset(),
                20..30 => board.probe_blindly(),
                _ => {}
            }
            if let Some(Demand::Run(activation)) = board.disk.take_demand() {
                prop_assert_eq!(activation.features & !OFFERED, 0);
                prop_assert!(activation.features >> 32 & 1 == 1);
                for (_, rings) in activation.enabled() {
                    prop_assert!(rings.size.is_power_of_two() && rings.size <= 256);
                    prop_assert!(rings.used + 6 + 8 * u64::from(rings.size) <= RAM);
                    prop_assert!(rings.descriptors + 16 * u64::from(rings.size) <= RAM);
                }
            }
        }
    }
}
