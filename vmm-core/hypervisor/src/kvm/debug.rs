//! A debugger's wishes in the words of `KVM_SET_GUEST_DEBUG`.
//!
//! Breakpoints and watches are the processor's debug registers, of which there are four: they need no
//! byte of guest memory changed, they work before the guest has mapped the address, and the guest's
//! `int3` stays its own. More than four are refused by name.
//!
//! Why not `int3` in guest memory? Each would have to be written into a page that may not be mapped yet,
//! hidden from reads, kept when the guest loads a module over it, and told from the guest's own.

use kvm_bindings::{
    KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP,
    kvm_debug_exit_arch, kvm_guest_debug,
};

use crate::debug::{DebugStop, GuestDebug, Watch};
use crate::error::EngineError;

/// DR0 to DR3.
pub(super) const REGISTERS: usize = 4;

/// `KVM_CAP_SET_GUEST_DEBUG2` (Linux 5.13): its value says which flags there are.
const CAP_FLAGS: u64 = 195;

/// DR6: single-step.
const STEP: u64 = 1 << 14;

/// DR7 with nothing enabled: bit 10 is always set.
const NONE: u64 = 1 << 10;

/// DR7.GE: exact data breakpoints, as ancient processors want to be told.
const EXACT: u64 = 1 << 9;

/// Whether interrupts can be held back while a vCPU is stepped. Where they cannot (before Linux 5.16), a
/// step may end in an interrupt's handler.
pub(super) fn blocks_interrupts(kvm: &kvm_ioctls::Kvm) -> bool {
    let flags = kvm.check_extension_raw(CAP_FLAGS);
    u32::try_from(flags).is_ok_and(|flags| flags & KVM_GUESTDBG_BLOCKIRQ != 0)
}

/// What KVM is told.
pub(super) fn control(
    debug: &GuestDebug,
    blocks_interrupts: bool,
) -> Result<kvm_guest_debug, EngineError> {
    let wanted = debug.code.len() + debug.data.len();
    if wanted > REGISTERS {
        return Err(EngineError::Breakpoints { limit: REGISTERS, wanted });
    }
    if !debug.data.iter().all(Watch::is_sound) {
        return Err(EngineError::Bug("a watch that no processor has"));
    }
    let mut control = kvm_guest_debug::default();
    let flag = |applies: bool, flag: u32| if applies { flag } else { 0 };
    control.control = flag(!debug.is_idle(), KVM_GUESTDBG_ENABLE)
        | flag(wanted != 0, KVM_GUESTDBG_USE_HW_BP)
        | flag(debug.steps, KVM_GUESTDBG_SINGLESTEP)
        | flag(debug.steps && blocks_interrupts, KVM_GUESTDBG_BLOCKIRQ);
    let code = debug.code.iter().map(|address| (*address, 0));
    let data = debug.data.iter().map(|watch| (watch.address, condition(watch)));
    let mut enables = if wanted == 0 { 0 } else { NONE | EXACT };
    for (number, (address, condition)) in code.chain(data).enumerate() {
        control.arch.debugreg[number] = address;
        enables |= 2 << (2 * number) | condition << (16 + 4 * number);
    }
    control.arch.debugreg[7] = enables;
    Ok(control)
}

/// R/W and LEN of a watch in DR7 (Intel SDM volume 3, 18.2.4).
fn condition(watch: &Watch) -> u64 {
    let len = match watch.len {
        1 => 0,
        2 => 1,
        8 => 2,
        _ => 3,
    };
    len << 2 | if watch.reads { 3 } else { 1 }
}

/// What KVM tells, of a vCPU that was told `debug`.
pub(super) fn stop(exit: &kvm_debug_exit_arch, debug: &GuestDebug) -> DebugStop {
    let met = (0..REGISTERS).find(|number| exit.dr6 & 1 << number != 0);
    let watch = |number: usize| debug.data.get(number.checked_sub(debug.code.len())?);
    match met.map(watch) {
        Some(Some(watch)) => DebugStop::Data(watch.address),
        None if exit.dr6 & STEP != 0 => DebugStop::Step,
        Some(None) | None => DebugStop::Code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> GuestDebug {
        let watch = Watch { address: 0x2000, len: 8, reads: false };
        GuestDebug { steps: false, code: vec![0x1000], data: vec![watch] }
    }

    #[test]
    fn breakpoints_come_first_then_watches() {
        let control = control(&wish(), true).unwrap();
        assert_eq!(control.control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP);
        assert_eq!(control.arch.debugreg[..3], [0x1000, 0x2000, 0]);
        // G0 and G1, the fixed bit and GE; breakpoint 1: writes of 8 bytes.
        assert_eq!(control.arch.debugreg[7], 0x0090_060a);
    }

    #[test]
    fn nothing_is_nothing() {
        let none = control(&GuestDebug::default(), true).unwrap();
        assert_eq!((none.control, none.arch.debugreg), (0, [0; 8]));
    }

    #[test]
    fn a_step_holds_interrupts_back_where_it_can() {
        let steps = GuestDebug { steps: true, ..GuestDebug::default() };
        let flags = |blocks| control(&steps, blocks).unwrap().control;
        assert_eq!(flags(false), KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP);
        assert_eq!(flags(true), flags(false) | KVM_GUESTDBG_BLOCKIRQ);
    }

    #[test]
    fn a_fifth_is_refused() {
        let five = GuestDebug { code: vec![1, 2, 3, 4], ..wish() };
        let error = control(&five, true).unwrap_err();
        assert!(matches!(error, EngineError::Breakpoints { limit: 4, wanted: 5 }), "{error}");
    }

    #[test]
    fn what_was_met_is_named() {
        let exit = |dr6| kvm_debug_exit_arch { dr6, ..Default::default() };
        assert_eq!(stop(&exit(0xffff_0ff1), &wish()), DebugStop::Code);
        assert_eq!(stop(&exit(0xffff_0ff2), &wish()), DebugStop::Data(0x2000));
        assert_eq!(stop(&exit(0xffff_4ff0), &wish()), DebugStop::Step);
        assert_eq!(stop(&exit(0xffff_0ff8), &wish()), DebugStop::Code, "none of ours");
    }
}
