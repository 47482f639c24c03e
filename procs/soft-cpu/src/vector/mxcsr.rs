//! MXCSR: how a floating-point instruction's exceptions are judged.
//!
//! Called by the handlers around every instruction that can raise one. The instruction has run with everything masked and
//! with no flag set (`masked`), so `raised` is what it raised itself. Where the guest masks all that was raised, the flags
//! become sticky and the result counts; otherwise the instruction must not write its result, and the guest gets #XM.
//!
//! Two things differ between masked and unmasked runs (Intel SDM volume 1, 11.5.2 and 11.5.3) and are put right here: after
//! an unmasked exception before the computation (IE, DE, ZE), none of those after it (OE, UE, PE) is reported; and an
//! unmasked underflow is raised by a tiny result even if it is exact. One thing is not: with an unmasked overflow or underflow
//! PE would say whether the result were inexact if exponents had no limit; here it says what the masked run found. Likewise
//! DPPS and DPPD with an unmasked exception in their products report what their sums would have raised.

/// Flags of exceptions that are found before the computation: invalid, denormal, divide by zero.
const BEFORE: u32 = 0b00_0111;
/// All six flags.
const FLAGS: u32 = 0b11_1111;
/// The underflow flag.
const UNDERFLOW: u32 = 1 << 4;
/// Distance of a mask bit from its flag.
const MASKS: u32 = 7;
/// Flush to zero.
const FLUSH: u32 = 1 << 15;
/// The bits that exist: everything else must be zero, or LDMXCSR and FXRSTOR raise #GP.
pub const WRITABLE: u32 = 0xffff;
/// After reset, and what Rust code runs under.
pub const DEFAULT: u32 = 0x1f80;

/// An unmasked exception: the guest gets #XM, and the target stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unmasked;

/// The control word to run an instruction of this guest under: its rounding and denormals, no flags, all masked.
#[inline(always)]
pub fn masked(guest: u32) -> u32 {
    // Flush to zero works only where underflow is masked (SDM volume 1, 10.2.3.3).
    let flush = if guest & UNDERFLOW << MASKS == 0 { FLUSH } else { 0 };
    guest & WRITABLE & !FLAGS & !flush | FLAGS << MASKS
}

/// Whether the guest runs under the word that Rust code runs under, whatever its flags: then the host's word need not be
/// exchanged.
#[inline(always)]
pub fn is_default(guest: u32) -> bool {
    guest & WRITABLE & !FLAGS == DEFAULT
}

/// Takes over what an instruction under the host's own word raised: the flags that are now set. A flag that was set before is
/// no news to the guest only if the guest's is set as well; says whether it is so, and changes nothing if not.
#[inline(always)]
pub fn settle_default(guest: &mut u32, before: u32, after: u32) -> bool {
    if before & !*guest & FLAGS != 0 {
        return false;
    }
    *guest |= after & FLAGS;
    true
}

/// Judges what an instruction raised; updates the guest's flags. `tiny` runs it again with flush to zero and says what that
/// raises: it is asked only where underflow is unmasked.
#[inline(always)]
pub fn settle(guest: &mut u32, raised: u32, tiny: impl FnOnce(u32) -> u32) -> Result<(), Unmasked> {
    let raised = raised & FLAGS;
    let unmasked = !(*guest >> MASKS) & FLAGS;
    if unmasked == 0 {
        *guest |= raised;
        return Ok(());
    }
    judge(guest, raised, unmasked, tiny)
}

#[cold]
fn judge(
    guest: &mut u32,
    raised: u32,
    unmasked: u32,
    tiny: impl FnOnce(u32) -> u32,
) -> Result<(), Unmasked> {
    if raised & unmasked & BEFORE != 0 {
        *guest |= raised & BEFORE;
        return Err(Unmasked);
    }
    let mut raised = raised;
    if unmasked & UNDERFLOW != 0 {
        raised |= tiny(masked(*guest) | FLUSH) & UNDERFLOW;
    }
    *guest |= raised;
    if raised & unmasked != 0 { Err(Unmasked) } else { Ok(()) }
}
