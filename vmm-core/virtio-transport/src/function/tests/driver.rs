//! What a driver does, and that it works.

use super::*;

pub(super) const STATUS: u64 = 0x14;

impl Board {
    pub fn read<const N: usize>(&self, offset: u64) -> u64 {
        let mut data = [0; N];
        self.mmio.read(BAR_ADDRESS + offset, &mut data);
        crate::access::number(&data).unwrap()
    }

    pub fn write<const N: usize>(&self, offset: u64, value: u64) {
        self.mmio.write(BAR_ADDRESS + offset, &value.to_le_bytes()[..N]);
    }

    pub fn status(&self) -> u64 {
        self.read::<1>(STATUS)
    }

    /// Reads the offer as a driver does: two halves.
    pub fn offered(&self) -> u64 {
        self.write::<4>(0, 0);
        let low = self.read::<4>(4);
        self.write::<4>(0, 1);
        self.read::<4>(4) << 32 | low
    }

    pub fn acknowledge(&self, features: u64) {
        self.write::<1>(STATUS, 0);
        self.write::<1>(STATUS, 3);
        for half in [0, 1] {
            self.write::<4>(8, half);
            self.write::<4>(12, features >> (32 * half) & 0xffff_ffff);
        }
        self.write::<1>(STATUS, 11);
    }

    pub fn set_rings(&self, queue: u64, at: u64) {
        self.write::<2>(0x16, queue);
        for (register, more) in [(0x20, 0), (0x28, 0x2000), (0x30, 0x3000)] {
            let address = at.wrapping_add(more);
            self.write::<4>(register, address & 0xffff_ffff);
            self.write::<4>(register + 4, address >> 32);
        }
    }

    pub fn enable(&self, queue: u64) -> bool {
        self.set_rings(queue, 0x10000 * (queue + 1));
        self.write::<2>(0x1c, 1);
        self.read::<2>(0x1c) == 1
    }

    /// Everything up to DRIVER_OK.
    pub fn probe(&self) {
        self.acknowledge(OFFERED);
        assert!(self.enable(0) && self.enable(1));
        self.write::<1>(STATUS, 15);
        assert_eq!(self.status(), 15);
    }

    /// Unmasks a vector as drivers do, and switches MSI-X on.
    pub fn arm(&self, vector: u64) {
        self.write::<4>(0x4000 + 16 * vector, 0xfee0_0000);
        self.write::<4>(0x4008 + 16 * vector, 0x50 + vector);
        self.write::<4>(0x400c + 16 * vector, 0);
        let msix = self.capability(0x11, 0).expect("MSI-X") + 2;
        self.mmio.write(ECAM + msix, &0x8000u16.to_le_bytes());
    }

    /// Where the `nth` capability of a number begins.
    pub fn capability(&self, number: u8, nth: usize) -> Option<u64> {
        let byte = |at: u64| {
            let mut data = [0];
            self.mmio.read(ECAM + at, &mut data);
            data[0]
        };
        let chain = std::iter::successors(Some(byte(0x34)), |at| Some(byte(u64::from(*at) + 1)));
        let mut all =
            chain.take_while(|at| *at != 0).map(u64::from).filter(|at| byte(*at) == number);
        all.nth(nth)
    }
}

#[test]
fn a_driver_that_does_everything_right_gets_its_queues() {
    let board = Board::new();
    assert_eq!(board.offered(), OFFERED);
    assert_eq!(board.read::<2>(0x12), 2, "queues");
    assert_eq!(board.read::<1>(0x2000), 77, "configuration");
    board.probe();
    assert_eq!(board.rung(), 1);
    let rings = |at| {
        Some(crate::QueueRings {
            size: 256,
            descriptors: at,
            available: at + 0x2000,
            used: at + 0x3000,
        })
    };
    let run = crate::Activation { features: OFFERED, queues: vec![rings(0x10000), rings(0x20000)] };
    assert_eq!(board.disk.take_demand(), Some(Demand::Run(run)));
    assert_eq!(board.disk.take_demand(), None);
}

#[test]
fn queues_that_were_not_enabled_are_not_run() {
    let board = Board::new();
    board.acknowledge(1 << 32);
    assert!(board.enable(1));
    board.write::<1>(STATUS, 15);
    match board.disk.take_demand() {
        Some(Demand::Run(activation)) => {
            assert_eq!(activation.enabled().map(|(index, _)| index).collect::<Vec<_>>(), [1]);
            assert_eq!(activation.features, 1 << 32);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn kicks_ring_the_doorbells_without_an_exit_and_with_one() {
    let board = Board::new();
    let record = board.vm.record();
    let addresses: Vec<_> = record.ioevents.iter().map(|(event, _)| *event).collect();
    let at = |queue: u64| bulkhead_hypervisor::IoEvent::mmio(BAR_ADDRESS + 0x3000 + 4 * queue);
    assert_eq!(addresses, [at(0), at(1)]);
    board.write::<2>(0x3004, 1);
    assert!(!board.bells[0].kick.is_rung() && board.bells[1].kick.is_rung());
}

#[test]
fn doorbells_follow_the_bar() {
    let board = Board::new();
    board.mmio.write(ECAM + 0x10, &0x12_3000_0000u64.to_le_bytes());
    let record = board.vm.record();
    assert_eq!(record.ioevents.len(), 2);
    assert_eq!(record.ioevents[0].0, bulkhead_hypervisor::IoEvent::mmio(0x12_3000_3000));
    board.mmio.write(ECAM + 4, &0u16.to_le_bytes());
    assert!(board.vm.record().ioevents.is_empty());
}

#[test]
fn calls_are_interrupts_of_the_queues_vector_once_it_is_armed() {
    let board = Board::new();
    board.write::<2>(0x16, 1);
    board.write::<2>(0x1a, 2);
    assert_eq!(board.read::<2>(0x1a), 2);
    assert!(board.vm.record().irqfds.is_empty());
    board.bells[1].call.ring();
    assert_eq!(board.read::<4>(0x5000), 0b100, "masked, so it is pending");
    board.arm(2);
    assert_eq!(board.vm.record().irqfds.len(), 1);
    board.write::<2>(0x1a, 0xffff);
    assert!(board.vm.record().irqfds.is_empty());
}

#[test]
fn vectors_that_do_not_exist_read_back_as_none() {
    let board = Board::new();
    board.write::<2>(0x10, 3);
    assert_eq!(board.read::<2>(0x10), 0xffff);
    board.write::<2>(0x10, 2);
    assert_eq!(board.read::<2>(0x10), 2);
    board.write::<2>(0x1a, 0x8000);
    assert_eq!(board.read::<2>(0x1a), 0xffff);
}

#[test]
fn a_changed_configuration_is_an_interrupt_with_another_generation() {
    let board = Board::new();
    board.arm(0);
    board.probe();
    board.write::<2>(0x10, 0);
    let before = board.read::<1>(0x15);
    board.disk.config_changed(&[5; 60]);
    assert_ne!(board.read::<1>(0x15), before);
    assert_eq!(board.read::<8>(0x2008), 0x0505_0505_0505_0505);
    assert_eq!(board.vm.take_messages().len(), 1);
    assert_eq!((board.read::<1>(0x1000), board.read::<1>(0x1000)), (2, 0), "a read clears");
}

#[test]
fn before_driver_ok_nobody_is_interrupted() {
    let board = Board::new();
    board.write::<2>(0x10, 0);
    board.arm(0);
    board.disk.config_changed(&[5; 60]);
    assert!(!board.disk.needs_reset());
    assert!(board.vm.take_messages().is_empty());
    assert_eq!(board.status(), 0);
}
