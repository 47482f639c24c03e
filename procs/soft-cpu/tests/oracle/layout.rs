//! Where code and data lie: at the same linear addresses natively and in the guest.

/// The page that the instructions are placed on.
pub const CODE: u64 = 0x1000_0000;
/// Bytes for one instruction and the native way out behind it.
pub const SLOT: u64 = 32;
/// Instructions that fit the page.
pub const SLOTS: usize = 4096 / SLOT as usize;
/// Native state block.
pub const STATE: u64 = 0x1000_4000;
/// Two pages that may be written, nothing before them.
pub const DATA: u64 = 0x2000_0000;
/// Bytes of them.
pub const DATA_LEN: u64 = 0x2000;
/// Behind them nothing for one page, then a page that may only be read, then nothing.
pub const READ_ONLY: u64 = DATA + DATA_LEN + 0x1000;

/// Where a slot's instruction is.
pub fn slot(number: usize) -> u64 {
    CODE + number as u64 * SLOT
}
