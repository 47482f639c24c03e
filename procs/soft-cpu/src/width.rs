//! Operand sizes as types: handlers are generic over them.

/// An unsigned integer of one of the four operand sizes.
pub trait Width:
    Copy
    + Eq
    + Ord
    + std::fmt::Debug
    + std::ops::BitAnd<Output = Self>
    + std::ops::BitOr<Output = Self>
    + std::ops::BitXor<Output = Self>
    + std::ops::Not<Output = Self>
    + 'static
{
    /// Bytes of it.
    const BYTES: usize;
    /// Bits of it.
    const BITS: u32 = Self::BYTES as u32 * 8;
    /// The low bytes of `value`.
    fn truncate(value: u64) -> Self;
    /// Zero-extended.
    fn zero_extend(self) -> u64;
    /// Sign-extended.
    fn sign_extend(self) -> u64;
}

macro_rules! width {
    ($type:ty, $signed:ty) => {
        impl Width for $type {
            const BYTES: usize = size_of::<$type>();
            #[inline(always)]
            fn truncate(value: u64) -> Self {
                value as $type
            }
            #[inline(always)]
            fn zero_extend(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn sign_extend(self) -> u64 {
                self as $signed as i64 as u64
            }
        }
    };
}

width!(u8, i8);
width!(u16, i16);
width!(u32, i32);
width!(u64, i64);
