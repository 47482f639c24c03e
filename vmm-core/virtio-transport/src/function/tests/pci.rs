//! Configuration space: who the function is, where its structures lie, and the access window.

use super::*;

fn config<const N: usize>(board: &Board, offset: u64) -> u64 {
    let mut data = [0; N];
    board.mmio.read(ECAM + offset, &mut data);
    crate::access::number(&data).unwrap()
}

#[test]
fn the_function_says_that_it_is_a_modern_virtio_disk() {
    let board = Board::new();
    assert_eq!(config::<4>(&board, 0), 0x1042_1af4);
    assert_eq!(config::<4>(&board, 8), 0x0180_0001);
    assert_eq!(config::<4>(&board, 0x2c), 0x1100_1af4);
}

#[test]
fn capabilities_name_every_structure_within_the_bar() {
    let board = Board::new();
    let structure = |nth| {
        let at = board.capability(9, nth).expect("five virtio capabilities");
        let (len, kind, bar) = (at + 2, at + 3, at + 4);
        let (offset, length) = (config::<4>(&board, at + 8), config::<4>(&board, at + 12));
        let [len, kind, bar] = [len, kind, bar].map(|at| config::<1>(&board, at));
        (kind, len, bar, offset, length)
    };
    let want = [
        (1, 16, 0, 0x0000, 0x38),
        (2, 20, 0, 0x3000, 8),
        (3, 16, 0, 0x1000, 1),
        (4, 16, 0, 0x2000, 60),
        (5, 20, 0, 0, 0),
    ];
    assert_eq!([0, 1, 2, 3, 4].map(structure), want);
    let notify = board.capability(9, 1).unwrap();
    assert_eq!(config::<4>(&board, notify + 16), 4, "multiplier");
    let msix = board.capability(0x11, 0).unwrap();
    assert_eq!(config::<2>(&board, msix + 2), 2, "three vectors");
}

fn memory() -> GuestMemory {
    let layout = RamLayout::new(RAM).unwrap();
    let fd = bulkhead_sys::memfd::create_sealed("ram", RAM).unwrap();
    Grant::whole(&layout, Rights::ReadWrite).map(&fd).unwrap()
}

#[test]
fn a_device_without_configuration_has_no_capability_for_it() {
    let bell = || Arc::new(Doorbell::new().unwrap());
    let bells = vec![QueueBells { kick: bell(), call: bell() }];
    let plan = VirtioPlan { device: DeviceType::RNG, queues: 1, queue_size: 64 };
    let rng = VirtioFunction::new(plan, Recorder::new(), memory(), bells, Arc::new(|| {})).unwrap();
    let mut space = [0; 256];
    rng.config_read(0, &mut space);
    assert_eq!(space[2..4], 0x1044u16.to_le_bytes());
    let mut at = usize::from(space[0x34]);
    let mut kinds = Vec::new();
    while at != 0 {
        kinds.extend((space[at] == 9).then_some(space[at + 3]));
        at = usize::from(space[at + 1]);
    }
    assert_eq!(kinds, [1, 2, 3, 5]);
}

#[test]
fn plans_that_make_no_sense_are_refused() {
    for (queues, queue_size) in [(0, 256), (1, 256), (257, 256), (0, 0), (0, 100)] {
        let plan = VirtioPlan { device: DeviceType::RNG, queues, queue_size };
        let made =
            VirtioFunction::new(plan, Recorder::new(), memory(), Vec::new(), Arc::new(|| {}));
        assert!(matches!(made, Err(TransportError::Plan { .. })), "{queues} {queue_size}");
    }
}

/// Points the window at `len` bytes at `offset` of a BAR; returns where its data register is.
fn aim(board: &Board, bar: u8, offset: u32, len: u32) -> u64 {
    let window = board.capability(9, 4).unwrap();
    board.mmio.write(ECAM + window + 4, &[bar]);
    board.mmio.write(ECAM + window + 8, &offset.to_le_bytes());
    board.mmio.write(ECAM + window + 12, &len.to_le_bytes());
    window + 16
}

#[test]
fn the_window_reaches_registers_and_doorbells_while_the_bar_is_off() {
    let board = Board::new();
    board.mmio.write(ECAM + 4, &0u16.to_le_bytes());
    let data = aim(&board, 0, 0x12, 2);
    assert_eq!(config::<2>(&board, data), 2, "number of queues");
    let data = aim(&board, 0, 0x14, 1);
    board.mmio.write(ECAM + data, &[3]);
    assert_eq!(config::<1>(&board, data), 3, "status");
    let data = aim(&board, 0, 0x3000, 2);
    board.mmio.write(ECAM + data, &0u16.to_le_bytes());
    assert!(board.bells[0].kick.is_rung());
}

#[test]
fn a_window_at_nothing_does_nothing() {
    let board = Board::new();
    for (bar, offset, len) in
        [(0, 0x14, 3), (2, 0x14, 1), (0, u32::MAX, 1), (0, 0x15, 2), (0, 0x14, 0)]
    {
        let data = aim(&board, bar, offset, len);
        board.mmio.write(ECAM + data, &3u32.to_le_bytes());
        config::<4>(&board, data);
    }
    assert_eq!(board.status(), 0);
}
