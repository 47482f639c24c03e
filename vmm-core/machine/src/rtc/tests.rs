use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// 29 February 2024, 23:59:58 UTC, in microseconds.
const LEAP_DAY: u64 = 1_709_251_198_000_000;

struct Board {
    rtc: Rtc,
    now: Arc<AtomicU64>,
}

impl Board {
    fn new() -> Self {
        let now = Arc::new(AtomicU64::new(LEAP_DAY));
        let source = Arc::clone(&now);
        let clock = move || UNIX_EPOCH + Duration::from_micros(source.load(Ordering::Relaxed));
        Self { rtc: Rtc::new(Box::new(clock)), now }
    }

    fn advance(&self, microseconds: u64) {
        self.now.fetch_add(microseconds, Ordering::Relaxed);
    }

    fn read(&self, index: u8) -> u8 {
        let mut data = [0xff];
        self.rtc.write(0, &[index]);
        self.rtc.read(1, &mut data);
        data[0]
    }

    fn write(&self, index: u8, value: u8) {
        self.rtc.write(0, &[index, value]);
    }

    fn date(&self) -> [u8; 7] {
        [CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS].map(|index| self.read(index))
    }
}

#[test]
fn registers_are_decimal_digits_until_binary_is_chosen() {
    let board = Board::new();
    assert_eq!(board.date(), [0x20, 0x24, 0x02, 0x29, 0x23, 0x59, 0x58]);
    board.write(STATUS_B, BINARY);
    assert_eq!(board.date(), [20, 24, 2, 29, 23, 59, 58]);
}

#[test]
fn the_clock_runs_over_the_end_of_a_leap_day() {
    let board = Board::new();
    board.advance(2_000_000);
    assert_eq!(board.date(), [0x20, 0x24, 0x03, 0x01, 0, 0, 0]);
}

#[test]
fn the_update_is_announced_for_244_microseconds_only() {
    let board = Board::new();
    assert_eq!(board.read(STATUS_A), TIME_BASE);
    board.advance(999_800);
    assert_eq!(board.read(STATUS_A), TIME_BASE | UPDATE_IN_PROGRESS);
    board.advance(200);
    assert_eq!(board.read(STATUS_A), TIME_BASE);
}

#[test]
fn an_update_is_told_of_once() {
    let board = Board::new();
    board.read(STATUS_C);
    assert_eq!(board.read(STATUS_C), 0);
    board.advance(1_000_000);
    assert_eq!(board.read(STATUS_C), UPDATE_ENDED);
    assert_eq!(board.read(STATUS_C), 0);
}

#[test]
fn a_clock_that_is_being_set_stands_still_and_then_runs_on_from_there() {
    let board = Board::new();
    board.write(STATUS_B, SET);
    board.write(HOURS, 0x11);
    board.write(YEAR, 0x30);
    board.advance(5_000_000);
    assert_eq!(board.date(), [0x20, 0x30, 0x02, 0x29, 0x11, 0x59, 0x58]);
    board.write(STATUS_B, 0);
    // 2030 has no 29 February.
    assert_eq!(board.date(), [0x20, 0x30, 0x03, 0x01, 0x11, 0x59, 0x58]);
    board.advance(1_000_000);
    assert_eq!(board.read(SECONDS), 0x59);
}

#[test]
fn memory_keeps_what_is_written_to_it() {
    let board = Board::new();
    board.write(0x40, 0xa5);
    assert_eq!(board.read(0x40), 0xa5);
    assert_eq!(board.read(STATUS_D), VALID);
}

#[test]
fn hours_stay_24() {
    let board = Board::new();
    board.write(STATUS_B, 0);
    assert_eq!(board.read(STATUS_B), HOURS_24);
}

#[test]
fn every_value_in_every_register_leaves_a_clock_that_answers() {
    let board = Board::new();
    for index in 0..=255 {
        for value in 0..=255 {
            board.write(index, value);
            board.date();
        }
    }
}
