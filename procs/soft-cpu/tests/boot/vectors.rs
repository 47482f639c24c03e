//! What the init computes with vectors before it greets: under each rounding, with and without denormals, and with an
//! exception unmasked that does not come, while the kernel interrupts it.

use iced_x86::code_asm::*;

/// Values of MXCSR, taken in turn: to nearest, down, up, to zero, flushed, with division by zero unmasked.
const WORDS: [u32; 8] = [0x1f80, 0x3f80, 0x5f80, 0x7f80, 0x9fc0, 0x1d80, 0x1f80, 0x1fbf];

const ROUNDS: u32 = 100_000;
/// Rounds with the same word, less 1.
const SAME_WORD: u32 = 255;

/// Emits it. Registers and the stack below are its own.
pub fn compute(code: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut again, mut goes_on, mut above) =
        (code.create_label(), code.create_label(), code.create_label());
    code.sub(rsp, 128)?;
    code.and(rsp, -64)?;
    for (number, word) in (0..).zip(WORDS) {
        code.mov(dword_ptr(rsp + number * 4), word)?;
    }
    code.pxor(xmm2, xmm2)?;
    code.mov(eax, 7)?;
    code.cvtsi2sd(xmm1, eax)?;
    code.mov(ecx, ROUNDS)?;
    code.set_label(&mut again)?;
    code.test(ecx, SAME_WORD)?;
    code.jne(goes_on)?;
    code.mov(eax, ecx)?;
    code.shr(eax, 8)?;
    code.and(eax, 7)?;
    code.ldmxcsr(dword_ptr(rsp + rax * 4))?;
    code.set_label(&mut goes_on)?;
    code.cvtsi2sd(xmm0, rcx)?;
    code.divsd(xmm0, xmm1)?;
    code.addsd(xmm2, xmm0)?;
    code.sqrtsd(xmm3, xmm2)?;
    code.cvtsd2ss(xmm5, xmm3)?;
    code.ucomisd(xmm3, xmm0)?;
    code.ja(above)?;
    code.subpd(xmm2, xmm3)?;
    code.set_label(&mut above)?;
    code.cvttsd2si(r10d, xmm3)?;
    code.movaps(xmmword_ptr(rsp + 64), xmm2)?;
    code.movups(xmm4, xmmword_ptr(rsp + 60))?;
    code.mulps(xmm4, xmmword_ptr(rsp + 64))?;
    code.cmpsd_3(xmm3, xmm4, 2)?;
    code.pshufd(xmm6, xmm4, 0x1b)?;
    code.stmxcsr(dword_ptr(rsp + 96))?;
    code.dec(ecx)?;
    code.jne(again)
}
