//! The real-time clock and its 128 bytes of memory (MC146818), ports 0x70 and 0x71.
//!
//! It shows the host's wall clock plus whatever the guest has set it ahead or back by. Each register
//! is computed when it is read, so there is no timer. The update-in-progress bit is set for the last
//! 244 µs of each second, as a driver expects: one that never saw it clear would wait for seconds.
//!
//! Absent on purpose: interrupts (no alarm, no periodic interrupt; ACPI names no pin), 12-hour mode
//! (the 24-hour bit cannot be cleared), daylight saving.

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::bus::BusDevice;
use crate::hold::hold;
use crate::layout::RTC_CENTURY;

mod calendar;

use calendar::Date;

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const WEEKDAY: u8 = 0x06;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const STATUS_C: u8 = 0x0c;
const STATUS_D: u8 = 0x0d;
const CENTURY: u8 = RTC_CENTURY;

const UPDATE_IN_PROGRESS: u8 = 1 << 7;
/// Status A at power-on: 32.768 kHz time base, 1024 Hz.
const TIME_BASE: u8 = 0x26;
/// Status B: the clock stands still and may be set.
const SET: u8 = 1 << 7;
/// Status B: registers are binary, not decimal digits.
const BINARY: u8 = 1 << 2;
/// Status B: hours run from 0 to 23. Always set.
const HOURS_24: u8 = 1 << 1;
/// Status B: bits that stick. Interrupt enables do although nothing comes of them.
const STATUS_B_WRITABLE: u8 = !HOURS_24;
/// Status C: the time has been updated since the last look.
const UPDATE_ENDED: u8 = 1 << 4;
/// Status D: memory and time are valid.
const VALID: u8 = 1 << 7;

/// How long before each second the update is announced (MC146818 datasheet: 244 µs).
const UPDATE_ANNOUNCED: Duration = Duration::from_micros(244);

/// Where wall-clock time comes from.
pub type WallClock = Box<dyn Fn() -> SystemTime + Send>;

struct State {
    clock: WallClock,
    /// Seconds that the guest's clock is ahead of the host's.
    ahead: i64,
    /// The date that is being set, while the clock stands still.
    standing: Option<Date>,
    index: u8,
    memory: [u8; 128],
    /// The second that status C told of last.
    told: i64,
}

/// The clock.
pub struct Rtc(Mutex<State>);

impl Rtc {
    /// A clock that shows what `clock` says.
    pub fn new(clock: WallClock) -> Self {
        let mut memory = [0; 128];
        memory[usize::from(STATUS_A)] = TIME_BASE;
        memory[usize::from(STATUS_B)] = HOURS_24;
        Self(Mutex::new(State { clock, ahead: 0, standing: None, index: 0, memory, told: 0 }))
    }

    /// A clock that shows the host's time.
    pub fn of_host() -> Self {
        Self::new(Box::new(SystemTime::now))
    }
}

impl State {
    /// Whole seconds and the rest, as the guest's clock has them.
    fn now(&self) -> (i64, Duration) {
        let since = (self.clock)().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(0).saturating_add(self.ahead);
        (seconds, Duration::from_nanos(u64::from(since.subsec_nanos())))
    }

    fn date(&self) -> Date {
        self.standing.unwrap_or_else(|| Date::at(self.now().0))
    }

    fn encode(&self, value: u8) -> u8 {
        match self.memory[usize::from(STATUS_B)] & BINARY {
            0 => ((value / 10 % 10) << 4) | (value % 10),
            _ => value,
        }
    }

    fn decode(&self, value: u8) -> u8 {
        match self.memory[usize::from(STATUS_B)] & BINARY {
            0 => (value >> 4).wrapping_mul(10).wrapping_add(value & 0x0f),
            _ => value,
        }
    }

    fn read(&mut self) -> u8 {
        let date = self.date();
        match self.index {
            SECONDS => self.encode(date.second),
            MINUTES => self.encode(date.minute),
            HOURS => self.encode(date.hour),
            WEEKDAY => self.encode(date.weekday()),
            DAY => self.encode(date.day),
            MONTH => self.encode(date.month),
            YEAR => self.encode((date.year % 100) as u8),
            CENTURY => self.encode((date.year / 100) as u8),
            STATUS_A => self.memory[usize::from(STATUS_A)] | self.update_in_progress(),
            STATUS_C => self.update_ended(),
            STATUS_D => VALID,
            index => self.memory[usize::from(index)],
        }
    }

    fn update_in_progress(&self) -> u8 {
        let rest = self.now().1;
        let soon = self.standing.is_none() && rest >= Duration::from_secs(1) - UPDATE_ANNOUNCED;
        if soon { UPDATE_IN_PROGRESS } else { 0 }
    }

    fn update_ended(&mut self) -> u8 {
        let second = self.now().0;
        let ended = std::mem::replace(&mut self.told, second) != second;
        if ended { UPDATE_ENDED } else { 0 }
    }

    fn write(&mut self, value: u8) {
        match self.index {
            SECONDS | MINUTES | HOURS | DAY | MONTH | YEAR | CENTURY => self.set_field(value),
            // The day of the week follows from the date.
            WEEKDAY | STATUS_C | STATUS_D => {}
            STATUS_A => self.memory[usize::from(STATUS_A)] = value & !UPDATE_IN_PROGRESS,
            STATUS_B => self.set_status(value & STATUS_B_WRITABLE | HOURS_24),
            index => self.memory[usize::from(index)] = value,
        }
    }

    fn set_field(&mut self, value: u8) {
        let value = self.decode(value);
        let mut date = self.date();
        match self.index {
            SECONDS => date.second = value,
            MINUTES => date.minute = value,
            HOURS => date.hour = value,
            DAY => date.day = value,
            MONTH => date.month = value,
            YEAR => date.year = date.year / 100 * 100 + u16::from(value % 100),
            _ => date.year = u16::from(value % 100) * 100 + date.year % 100,
        }
        match self.standing {
            Some(_) => self.standing = Some(date),
            None => self.set_to(date),
        }
    }

    fn set_status(&mut self, status: u8) {
        self.memory[usize::from(STATUS_B)] = status;
        match (status & SET != 0, self.standing.take()) {
            (true, standing) => {
                self.standing = Some(standing.unwrap_or_else(|| Date::at(self.now().0)))
            }
            (false, Some(date)) => self.set_to(date),
            (false, None) => {}
        }
    }

    /// Runs on from `date`. Nonsense (a 99th of the month) runs on from the day that it would be.
    fn set_to(&mut self, date: Date) {
        self.ahead = self.ahead.saturating_add(date.seconds() - self.now().0);
    }
}

impl BusDevice for Rtc {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let (1, Some(byte)) = (offset, data.first_mut()) {
            *byte = hold(&self.0).read();
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut state = hold(&self.0);
        for (port, byte) in (offset..2).zip(data) {
            match port {
                // The top bit masks non-maskable interrupts, of which there are none.
                0 => state.index = byte & 0x7f,
                _ => state.write(*byte),
            }
        }
    }
}

#[cfg(test)]
mod tests;
