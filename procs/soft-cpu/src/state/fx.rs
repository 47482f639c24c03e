//! x87, MMX and SSE state, in the layout of FXSAVE: the host's own instructions load and store it.

/// The 512 bytes of FXSAVE64 (Intel SDM volume 1, 10.5.1).
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct Fx {
    /// x87 control word.
    pub control: u16,
    /// x87 status word.
    pub status: u16,
    /// Abridged tag word: a bit per register that is not empty.
    pub tags: u8,
    /// Reserved.
    pub reserved: u8,
    /// Last x87 opcode.
    pub opcode: u16,
    /// Last x87 instruction pointer.
    pub instruction: u64,
    /// Last x87 data pointer.
    pub data: u64,
    /// SSE control and status.
    pub mxcsr: u32,
    /// Which of its bits exist.
    pub mxcsr_mask: u32,
    /// ST(0)–ST(7), which are also MM0–MM7 in another order.
    pub st: [u128; 8],
    /// XMM0–XMM15.
    pub xmm: [u128; 16],
    /// Reserved and free for software.
    pub rest: [u128; 6],
}

impl Default for Fx {
    /// As after FNINIT and with MXCSR as at power-on.
    fn default() -> Self {
        Self {
            control: 0x37f,
            status: 0,
            tags: 0,
            reserved: 0,
            opcode: 0,
            instruction: 0,
            data: 0,
            mxcsr: 0x1f80,
            mxcsr_mask: 0xffff,
            st: [0; 8],
            xmm: [0; 16],
            rest: [0; 6],
        }
    }
}

const _: () = assert!(size_of::<Fx>() == 512);

impl Fx {
    /// The image as bytes.
    pub fn to_bytes(&self) -> [u8; 512] {
        // SAFETY: all fields are plain integers without padding, and the sizes are equal.
        unsafe { std::mem::transmute_copy(self) }
    }

    /// The other way round. Any bytes are an image; what they mean is the caller's to check.
    pub fn from_bytes(bytes: &[u8; 512]) -> Self {
        // SAFETY: as above; any bits are valid integers.
        unsafe { std::mem::transmute_copy(bytes) }
    }
}

impl Fx {
    /// The 512 bytes, four by four.
    pub fn words(&self) -> [u32; 128] {
        // SAFETY: the structure is 512 bytes without padding, and every bit pattern is a word.
        unsafe { std::mem::transmute_copy(self) }
    }

    /// Replaces them. Bits of MXCSR that do not exist are dropped: loading them would fault.
    pub fn set_words(&mut self, words: [u32; 128]) {
        // SAFETY: the structure is 512 bytes without padding, and any bytes are a value of it.
        *self = unsafe { std::mem::transmute_copy(&words) };
        self.mxcsr &= 0xffff;
    }
}
