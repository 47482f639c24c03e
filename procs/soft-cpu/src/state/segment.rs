//! Segment registers with their hidden parts.

/// Which segment register, in the processor's numbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "their names say it")]
pub enum SegmentName {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
}

impl SegmentName {
    /// All six, by number.
    pub const ALL: [Self; 6] = [Self::Es, Self::Cs, Self::Ss, Self::Ds, Self::Fs, Self::Gs];
}

/// A segment register, or one of the two system segments (LDTR, TR).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Segment {
    /// What was loaded.
    pub selector: u16,
    /// Address of byte 0.
    pub base: u64,
    /// Last byte (or, of a segment that grows down, the byte below the first), granularity applied.
    pub limit: u32,
    /// Four bits of type.
    pub kind: u8,
    /// Code or data, not a system segment.
    pub is_user: bool,
    /// Descriptor privilege level.
    pub dpl: u8,
    /// Present. A null selector leaves a segment that is not.
    pub present: bool,
    /// For software.
    pub avl: bool,
    /// 64-bit code.
    pub long: bool,
    /// 32-bit default size, or 32-bit stack.
    pub big: bool,
    /// The limit was in pages.
    pub pages: bool,
}

impl Segment {
    /// What a segment register holds in real mode.
    pub fn real(selector: u16) -> Self {
        Self {
            selector,
            base: u64::from(selector) << 4,
            limit: 0xffff,
            kind: 3,
            is_user: true,
            present: true,
            ..Self::default()
        }
    }

    /// Whether it is code.
    pub fn is_code(&self) -> bool {
        self.is_user && self.kind & 8 != 0
    }

    /// Whether bytes `offset..offset + size` may be read or written (Intel SDM volume 3, 5.3 and 5.5).
    #[inline]
    pub fn permits(&self, offset: u32, size: u32, write: bool) -> bool {
        let allowed = match (self.kind & 8 != 0, write) {
            (true, true) => false,
            (true, false) => self.kind & 2 != 0,
            (false, true) => self.kind & 2 != 0,
            (false, false) => true,
        };
        let last = offset.checked_add(size - 1);
        let inside = match self.kind & 0xc == 4 {
            false => last.is_some_and(|last| last <= self.limit),
            true => {
                let top = if self.big { u32::MAX } else { 0xffff };
                offset > self.limit && last.is_some_and(|last| last <= top)
            }
        };
        self.present && allowed && inside
    }
}
