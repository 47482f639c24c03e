//! Choices made from the bytes of an input, in order.
//!
//! An input that has run out answers zeroes: every input is a whole script, and a longer one begins
//! like the shorter.

/// What is left of an input.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a>(&'a [u8]);

impl<'a> Draw<'a> {
    /// All of an input.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// Up to `len` bytes.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(len.min(self.0.len()));
        self.0 = later;
        now
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn number(&mut self, len: usize) -> u64 {
        let mut number = [0; 8];
        let bytes = self.bytes(len);
        number[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(number)
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.number(1) as u8
    }

    /// Two bytes.
    pub fn half(&mut self) -> u16 {
        self.number(2) as u16
    }

    /// Four bytes.
    pub fn word(&mut self) -> u32 {
        self.number(4) as u32
    }

    /// Eight bytes.
    pub fn long(&mut self) -> u64 {
        self.number(8)
    }

    /// A number below `bound`, which is at most 65536.
    pub fn below(&mut self, bound: u32) -> u32 {
        u32::from(self.half()) % bound.max(1)
    }

    /// Yes or no.
    pub fn flip(&mut self) -> bool {
        self.byte() & 1 == 1
    }
}
