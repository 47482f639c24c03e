use std::sync::atomic::{AtomicUsize, Ordering};

use bulkhead_hypervisor::recorder::Recorder;

use super::*;
use crate::ioapic::Ioapic;

const DATA: u64 = 0;
const ENABLE: u64 = 1;
const IDENTIFICATION: u64 = 2;
const LINE_CONTROL: u64 = 3;
const STATUS: u64 = 5;
const TRANSMITTER_INTERRUPT: u8 = 2;

struct Board {
    vm: Arc<Recorder>,
    uart: Arc<Uart>,
    woken: Arc<AtomicUsize>,
}

impl Board {
    fn new() -> Self {
        let vm = Recorder::new();
        let ioapic = Ioapic::new(vm.clone());
        ioapic.write(0, &[0x10 + 8]);
        ioapic.write(0x10, &0x34u32.to_le_bytes());
        let woken = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&woken);
        let wake: Wake = Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        Self { uart: Uart::new(IrqLine::new(&ioapic, 4), wake), vm, woken }
    }

    fn read(&self, register: u64) -> u8 {
        let mut data = [0xff];
        self.uart.read(register, &mut data);
        data[0]
    }

    fn is_idle(&self) -> bool {
        self.read(STATUS) & TRANSMITTER_IDLE == TRANSMITTER_IDLE
    }

    /// A driver that looks at the line status and then fills its FIFO. Returns what it wrote.
    fn print(&self, bytes: &[u8]) -> usize {
        let mut written = 0;
        for burst in bytes.chunks(16) {
            if !self.is_idle() {
                break;
            }
            for byte in burst {
                self.uart.write(DATA, &[*byte]);
            }
            written += burst.len();
        }
        written
    }

    fn drain(&self, at_most: usize) -> Vec<u8> {
        let mut out = Vec::new();
        self.uart.drain(|bytes| {
            let room = at_most - out.len();
            if room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let taken = bytes.len().min(room);
            out.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        });
        out
    }
}

#[test]
fn output_of_a_patient_guest_arrives_whole_however_slow_the_reader() {
    let board = Board::new();
    let text: Vec<u8> = (0..400_000u32).map(|n| n as u8).collect();
    let (mut written, mut seen) = (0, Vec::new());
    let mut stalls = 0;
    while written < text.len() {
        let now = board.print(&text[written..]);
        written += now;
        stalls += usize::from(written < text.len());
        seen.extend(board.drain(777));
    }
    seen.extend(board.drain(usize::MAX));
    assert!(seen == text);
    assert!(stalls > 0, "the guest must have had to wait");
}

#[test]
fn a_guest_that_never_looks_loses_its_own_bytes_and_nothing_else() {
    let board = Board::new();
    for _ in 0..OUTBOX + 1000 {
        board.uart.write(DATA, b"x");
    }
    assert_eq!(board.drain(usize::MAX).len(), OUTBOX);
}

#[test]
fn a_busy_transmitter_hides_its_interrupt_and_raises_it_when_there_is_room() {
    let board = Board::new();
    board.uart.write(ENABLE, &[TRANSMITTER_INTERRUPT]);
    let full = vec![b'x'; 2 * OUTBOX];
    board.print(&full);
    assert!(!board.is_idle());
    assert_eq!(board.read(IDENTIFICATION) & 0x0f, IDENTIFICATION_NONE);
    board.vm.take_messages();
    board.drain(usize::MAX);
    assert_eq!(board.vm.take_messages().len(), 1);
    assert_eq!(board.read(IDENTIFICATION) & 0x0f, TRANSMITTER_INTERRUPT);
    assert!(board.is_idle());
}

#[test]
fn an_interrupt_that_is_owed_waits_for_the_divisor_latch_to_close() {
    let board = Board::new();
    board.uart.write(ENABLE, &[TRANSMITTER_INTERRUPT]);
    board.print(&vec![b'x'; 2 * OUTBOX]);
    assert!(!board.is_idle());
    board.read(IDENTIFICATION);
    board.uart.write(LINE_CONTROL, &[DIVISOR_LATCH | 3]);
    board.vm.take_messages();
    board.drain(usize::MAX);
    assert_eq!(board.vm.take_messages(), []);
    board.uart.write(LINE_CONTROL, &[3]);
    assert_eq!(board.vm.take_messages().len(), 1);
}

#[test]
fn the_reader_is_woken_once_per_batch() {
    let board = Board::new();
    board.print(b"hello");
    assert_eq!(board.woken.load(Ordering::Relaxed), 1);
    board.drain(usize::MAX);
    board.print(b"again");
    assert_eq!(board.woken.load(Ordering::Relaxed), 2);
}

#[test]
fn input_beyond_the_fifo_is_left_to_the_sender() {
    let board = Board::new();
    let room = board.uart.input_room();
    assert_eq!(board.uart.input(&[b'i'; 100]), room);
    assert_eq!(board.uart.input(b"more"), 0);
    for _ in 0..room {
        assert_eq!(board.read(DATA), b'i');
    }
    assert_eq!(board.woken.load(Ordering::Relaxed), 1, "an emptied FIFO asks for more");
    assert_eq!(board.uart.input(b"more"), 4);
}

#[test]
fn a_reader_that_is_gone_costs_the_guest_no_waiting() {
    let board = Board::new();
    board.print(&vec![b'x'; 2 * OUTBOX]);
    let outcome = board.uart.drain(|_| Err(io::ErrorKind::BrokenPipe.into()));
    assert_eq!(outcome, Drained::ReaderGone);
    assert!(board.is_idle());
}

#[test]
fn a_wide_access_reaches_the_registers_that_it_covers() {
    let board = Board::new();
    board.uart.write(6, &[0, 0x5a, 0x77, 0x77]);
    let mut data = [0xff; 4];
    board.uart.read(7, &mut data);
    assert_eq!(data, [0x5a, 0xff, 0xff, 0xff]);
}

#[test]
fn a_reset_keeps_what_is_on_its_way_out() {
    let board = Board::new();
    board.uart.write(ENABLE, &[TRANSMITTER_INTERRUPT]);
    board.print(b"last words");
    board.uart.reset();
    assert_eq!(board.read(ENABLE), 0);
    assert_eq!(board.drain(usize::MAX), b"last words");
}
