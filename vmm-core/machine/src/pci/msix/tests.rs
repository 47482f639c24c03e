use std::os::fd::AsRawFd;

use bulkhead_hypervisor::recorder::Recorder;

use super::*;

const ENABLE: u16 = CONTROL_ENABLE;

struct Board {
    vm: Arc<Recorder>,
    table: MsixTable,
    call: Arc<Doorbell>,
}

impl Board {
    fn new() -> Self {
        let vm = Recorder::new();
        let table = MsixTable::new(vm.clone(), 3).unwrap();
        Self { vm, table, call: Arc::new(Doorbell::new().unwrap()) }
    }

    fn write(&self, vector: u64, word: u64, value: u32) {
        self.table.table_write(vector * ENTRY_LEN + word * 4, &value.to_le_bytes());
    }

    /// Fills an entry in as drivers do: address, data, then unmask.
    fn program(&self, vector: u64, data: u32) {
        self.write(vector, 0, 0xfee0_0000);
        self.write(vector, 1, 0);
        self.write(vector, 2, data);
        self.write(vector, 3, 0);
    }

    fn mask(&self, vector: u64, masked: bool) {
        self.write(vector, 3, u32::from(masked));
    }

    fn pending(&self) -> u64 {
        let mut data = [0xff; 8];
        self.table.pending_read(0, &mut data);
        u64::from_le_bytes(data)
    }

    fn irqfds(&self) -> Vec<(i32, Gsi)> {
        self.vm.record().irqfds
    }
}

#[test]
fn eventfds_are_connected_only_while_their_vector_is_armed() {
    let board = Board::new();
    board.table.connect(1, &board.call);
    board.program(1, 0x51);
    assert_eq!(board.irqfds(), [], "MSI-X is off");
    board.table.set_control(ENABLE);
    assert_eq!(board.irqfds(), [(board.call.as_raw_fd(), Gsi(25))]);
    board.mask(1, true);
    assert_eq!(board.irqfds(), []);
    board.mask(1, false);
    assert_eq!(board.irqfds().len(), 1);
    board.table.set_control(ENABLE | CONTROL_FUNCTION_MASK);
    assert_eq!(board.irqfds(), []);
}

#[test]
fn an_eventfd_connected_to_an_armed_vector_works_at_once() {
    let board = Board::new();
    board.table.set_control(ENABLE);
    board.program(0, 0x50);
    board.table.connect(0, &board.call);
    assert_eq!(board.irqfds().len(), 1);
    board.table.disconnect(0, &board.call);
    assert_eq!(board.irqfds(), []);
    board.mask(0, true);
    board.mask(0, false);
    assert_eq!(board.irqfds(), [], "forgotten for good");
}

#[test]
fn filling_an_entry_in_changes_the_routes_once() {
    let board = Board::new();
    board.table.set_control(ENABLE);
    board.program(2, 0x52);
    let record = board.vm.record();
    assert_eq!(record.batches, 1);
    assert_eq!(record.routes[&Gsi(26)], Msi { address: 0xfee0_0000, data: 0x52 });
    board.mask(2, true);
    board.mask(2, false);
    assert_eq!(board.vm.record().batches, 1, "the same message needs no change");
}

#[test]
fn one_control_word_arms_all_vectors_in_one_batch() {
    let board = Board::new();
    for vector in 0..3 {
        board.program(vector, 0x50 + vector as u32);
    }
    board.table.set_control(ENABLE);
    let record = board.vm.record();
    assert_eq!((record.batches, record.routes.len()), (1, 3));
}

#[test]
fn what_is_signalled_while_masked_is_pending_and_delivered_on_unmasking() {
    let board = Board::new();
    board.table.set_control(ENABLE);
    board.program(1, 0x51);
    board.mask(1, true);
    board.table.signal(1);
    assert_eq!(board.pending(), 0b010);
    assert_eq!(board.vm.take_messages(), []);
    board.mask(1, false);
    assert_eq!(board.vm.take_messages(), [Msi { address: 0xfee0_0000, data: 0x51 }]);
    assert_eq!(board.pending(), 0);
}

#[test]
fn a_backends_signal_shows_as_pending_while_masked() {
    let board = Board::new();
    board.table.connect(2, &board.call);
    board.call.ring();
    assert_eq!(board.pending(), 0b100);
    board.table.set_control(ENABLE);
    board.program(2, 0x52);
    assert_eq!(board.pending(), 0, "armed: the engine takes it");
}

#[test]
fn an_armed_vector_signals_at_once() {
    let board = Board::new();
    board.table.set_control(ENABLE);
    board.program(0, 0x50);
    board.table.signal(0);
    assert_eq!(board.vm.take_messages().len(), 1);
}

#[test]
fn a_message_changed_while_armed_reaches_the_route() {
    let board = Board::new();
    board.table.set_control(ENABLE);
    board.program(0, 0x50);
    board.write(0, 2, 0x60);
    assert_eq!(board.vm.record().routes[&Gsi(24)].data, 0x60);
}

#[test]
fn entries_read_back_and_reserved_bits_do_not() {
    let board = Board::new();
    board.table.table_write(8, &[0x44, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff]);
    let mut data = [0; 8];
    board.table.table_read(8, &mut data);
    assert_eq!(data, [0x44, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn vectors_that_do_not_exist_are_ignored() {
    let board = Board::new();
    for vector in [3, 4, NO_VECTOR] {
        board.table.connect(vector, &board.call);
        board.table.signal(vector);
        board.table.disconnect(vector, &board.call);
    }
    let mut data = [0xff; 4];
    board.table.table_read(3 * ENTRY_LEN, &mut data);
    assert_eq!(data, [0; 4]);
    board.table.table_read(u64::MAX, &mut data);
    board.table.pending_read(u64::MAX - 3, &mut data);
    board.table.table_write(u64::MAX - 3, &data);
}

#[test]
fn odd_writes_are_ignored() {
    let board = Board::new();
    board.table.table_write(1, &[0xff; 4]);
    board.table.table_write(0, &[0xff; 2]);
    board.table.table_write(4, &[0xff; 8]);
    let mut data = [0xff; 8];
    board.table.table_read(0, &mut data);
    assert_eq!(data, [0; 8]);
}

#[test]
fn a_reset_disconnects_and_masks_but_remembers_whose_eventfds_they_are() {
    let board = Board::new();
    board.table.connect(0, &board.call);
    board.table.set_control(ENABLE);
    board.program(0, 0x50);
    board.table.reset();
    assert_eq!(board.irqfds(), []);
    board.table.set_control(ENABLE);
    board.program(0, 0x50);
    assert_eq!(board.irqfds().len(), 1);
}

#[test]
fn a_dropped_table_gives_its_numbers_back() {
    let board = Board::new();
    assert_eq!(board.vm.record().allocated.len(), 3);
    drop(board.table);
    assert!(board.vm.record().allocated.is_empty());
}
