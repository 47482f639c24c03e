//! A small generator of numbers, and of values that arithmetic finds interesting.

/// xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 32) % limit
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A general register's value.
    pub fn integer(&mut self) -> u64 {
        match self.below(8) {
            0 => self.below(256),
            1 => self.below(256).wrapping_neg(),
            2 => 1 << self.below(64),
            3 => (1u64 << self.below(64)).wrapping_sub(1),
            4 => self.pick(&[
                0,
                1,
                u64::MAX,
                1 << 31,
                (1 << 31) - 1,
                1 << 63,
                (1 << 63) - 1,
                0x80,
                0x8000,
            ]),
            5 => self.next() & 0xffff_ffff,
            _ => self.next(),
        }
    }

    /// Bits of a single-precision number.
    pub fn single(&mut self) -> u32 {
        let special = [
            0,
            0x8000_0000,
            0x3f80_0000,
            0xbf80_0000,
            0x7f80_0000,
            0xff80_0000,
            0x7fc0_0000,
            0x7f80_0001,
            0xffa0_0000,
            1,
            0x8000_0001,
            0x007f_ffff,
            0x0080_0000,
            0x7f7f_ffff,
            0x4f00_0000,
            0xcf00_0000,
            0x5f00_0000,
        ];
        match self.below(4) {
            0 => self.pick(&special),
            1 => (self.below(2000) as f32 / 8.0 - 100.0).to_bits(),
            2 => self.next() as u32 & 0x87ff_ffff | 0x3800_0000,
            _ => self.next() as u32,
        }
    }

    /// Bits of a double-precision number.
    pub fn double(&mut self) -> u64 {
        let special = [
            0,
            1 << 63,
            0x3ff0_0000_0000_0000,
            0xbff0_0000_0000_0000,
            0x7ff0_0000_0000_0000,
            0xfff0_0000_0000_0000,
            0x7ff8_0000_0000_0000,
            0x7ff0_0000_0000_0001,
            0xfff4_0000_0000_0000,
            1,
            0x8000_0000_0000_0001,
            0x000f_ffff_ffff_ffff,
            0x0010_0000_0000_0000,
            0x7fef_ffff_ffff_ffff,
            0x41e0_0000_0000_0000,
            0xc1e0_0000_0000_0000,
            0x43e0_0000_0000_0000,
            0x3810_0000_0000_0000,
            0x47ef_ffff_e000_0000,
        ];
        match self.below(4) {
            0 => self.pick(&special),
            1 => (self.below(2000) as f64 / 8.0 - 100.0).to_bits(),
            2 => self.next() & 0x83ff_ffff_ffff_ffff | 0x3c00_0000_0000_0000,
            _ => self.next(),
        }
    }

    /// The contents of an XMM register.
    pub fn vector(&mut self) -> u128 {
        match self.below(4) {
            0 => (0..4).fold(0, |value, _| value << 32 | u128::from(self.single())),
            1 => u128::from(self.double()) << 64 | u128::from(self.double()),
            2 => u128::from(self.integer()) << 64 | u128::from(self.integer()),
            _ => u128::from(self.next()) << 64 | u128::from(self.next()),
        }
    }

    /// The contents of an x87 register: ten bytes.
    pub fn extended(&mut self) -> u128 {
        let mantissa = match self.below(4) {
            0 => self.pick(&[0, 1 << 63, 3 << 62, u64::MAX, (1 << 63) - 1, 1]),
            1 => self.below(1000) << 53 | 1 << 63,
            _ => self.next() | 1 << 63,
        };
        let exponent = match self.below(4) {
            0 => self.pick(&[0, 1, 0x7fff, 0x3fff, 0x7ffe, 0x8000, 0xffff, 0xbfff, 0x4000, 0x403e]),
            1 => self.next() & 0xffff,
            _ => (0x3fff + self.below(40) - 20) | self.below(2) << 15,
        };
        u128::from(exponent & 0xffff) << 64 | u128::from(mantissa)
    }
}
