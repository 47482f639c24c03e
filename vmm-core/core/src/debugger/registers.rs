//! Registers between the engine's layouts and the debugger's.
//!
//! Law: what a debugger writes cannot take a vCPU to a place where the processor would not be: reserved
//! bits of RFLAGS and MXCSR are masked. Control registers, EFER and selectors are shown, not written: a
//! mode is changed by instructions, which set everything that hangs together.

use bulkhead_hypervisor::x86_64::VcpuState;
use bulkhead_protocol::gdb::DebugRegisters;

/// `IA32_KERNEL_GS_BASE`.
const KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Words of an `FXSAVE` area.
const FX_WORDS: usize = 128;

/// Where in it MXCSR is, and its bits that are not reserved.
const MXCSR: usize = 6;
const MXCSR_BITS: u32 = 0xffff;

/// The `XSAVE` header: which states are there; x87 and SSE.
const HEADER: usize = 128;
const X87_AND_SSE: u32 = 3;

/// RFLAGS that a debugger may change; virtual-8086 mode and the interrupt's own bits are not among them.
const RFLAGS_BITS: u64 = 0x25_7fd5;
const RFLAGS_FIXED: u64 = 2;

/// As the debugger is told.
pub(super) fn of(state: &VcpuState) -> DebugRegisters {
    let (regs, sregs) = (&state.regs, &state.sregs);
    let kernel_gs = state.msrs.iter().find(|msr| msr.index == KERNEL_GS_BASE);
    let words = state.xsave.0.iter().take(FX_WORDS);
    DebugRegisters {
        general: [
            regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.rsp,
            regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ],
        rip: regs.rip,
        rflags: regs.rflags,
        selectors: [sregs.cs, sregs.ss, sregs.ds, sregs.es, sregs.fs, sregs.gs]
            .map(|segment| segment.selector),
        bases: [sregs.fs.base, sregs.gs.base, kernel_gs.map_or(0, |msr| msr.data)],
        control: [sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.cr8],
        efer: sregs.efer,
        fx: words.flat_map(|word| word.to_le_bytes()).collect(),
    }
}

/// Changes what a debugger may change.
pub(super) fn change(state: &mut VcpuState, wanted: &DebugRegisters) -> Result<(), String> {
    let (words, rest) = wanted.fx.as_chunks::<4>();
    if words.len() != FX_WORDS || !rest.is_empty() {
        return Err(format!("{} bytes are no x87 and SSE registers", wanted.fx.len()));
    }
    let regs = &mut state.regs;
    [
        regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.rsp, regs.r8,
        regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ] = wanted.general;
    regs.rip = wanted.rip;
    regs.rflags = regs.rflags & !RFLAGS_BITS | wanted.rflags & RFLAGS_BITS | RFLAGS_FIXED;
    state.sregs.fs.base = wanted.bases[0];
    state.sregs.gs.base = wanted.bases[1];
    for (to, from) in state.xsave.0.iter_mut().zip(words) {
        *to = u32::from_le_bytes(*from);
    }
    state.xsave.0[MXCSR] &= MXCSR_BITS;
    state.xsave.0[HEADER] |= X87_AND_SSE;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_changes_nothing() {
        let mut state = VcpuState::default();
        (state.regs.rax, state.regs.r15, state.regs.rip) = (1, 15, 0x1000);
        (state.regs.rflags, state.sregs.cr3, state.sregs.gs.base) = (0x246, 0x5000, 7);
        state.xsave.0[40] = 0x1234_5678;
        let told = of(&state);
        assert_eq!((told.general[0], told.general[15], told.control[2]), (1, 15, 0x5000));
        let mut same = state.clone();
        change(&mut same, &told).unwrap();
        assert_eq!(of(&same), told);
    }

    #[test]
    fn what_no_processor_has_is_not_taken() {
        let mut state = VcpuState::default();
        let mut wanted = of(&state);
        wanted.rflags = u64::MAX;
        wanted.control = [u64::MAX; 5];
        wanted.fx[24..28].fill(0xff);
        change(&mut state, &wanted).unwrap();
        assert_eq!((state.regs.rflags, state.xsave.0[MXCSR]), (0x25_7fd7, 0xffff));
        assert_eq!(state.sregs.cr0, 0);
        wanted.fx.pop();
        assert!(change(&mut state, &wanted).is_err());
    }
}
