//! Data breakpoints (Intel SDM volume 3, 18.2).
//!
//! While one is set, the TLB is not used: every access comes by here.

use crate::cpu::Cpu;

/// Bits of DR7: the local and global enables of breakpoint `number`.
fn enables(number: usize) -> u64 {
    3 << (2 * number)
}

/// What breakpoint `number` waits for: 0 execution, 1 writes, 2 I/O, 3 reads and writes.
fn condition(control: u64, number: usize) -> u64 {
    control >> (16 + 4 * number) & 3
}

/// Bytes that it watches.
fn len(control: u64, number: usize) -> u64 {
    [1, 2, 8, 4][(control >> (18 + 4 * number) & 3) as usize]
}

impl Cpu {
    /// Whether a data breakpoint is set.
    pub(crate) fn watches_data(&self) -> bool {
        let control = self.debug.control;
        (0..4).any(|number| {
            control & enables(number) != 0 && matches!(condition(control, number), 1 | 3)
        })
    }

    /// Notes which data breakpoints an access touches; the trap comes after the instruction.
    pub(crate) fn watch_data(&mut self, linear: u64, size: usize, write: bool) {
        self.debugger.watch(linear, size, write);
        let control = self.debug.control;
        for number in 0..4 {
            let hit = match condition(control, number) {
                1 => write,
                3 => true,
                _ => false,
            };
            let len = len(control, number);
            let first = self.debug.addresses[number] & !(len - 1);
            let touches =
                linear < first.wrapping_add(len) && first < linear.wrapping_add(size as u64);
            if hit && touches && control & enables(number) != 0 {
                self.debug_pending |= 1 << number;
            }
        }
    }
}
