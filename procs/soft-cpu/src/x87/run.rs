//! Runs one x87 opcode on an image.
//!
//! The opcode is part of the encoding, so each of the 512 register forms and 64 memory forms is a function of its own, and
//! decoding picks it. Which forms exist is the decoder's knowledge: a form that does not must never be called.

use crate::state::{Flags, Fx};
use core::arch::asm;

/// A form with registers only. Flags in (FCMOVcc) and out (FCOMI).
pub type OnRegisters = unsafe fn(&mut Fx, Flags) -> Flags;
/// A form with a memory operand of up to ten bytes.
pub type OnMemory = unsafe fn(&mut Fx, &mut [u8; 16]);

/// Where an instruction and its operand are in the guest.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// RIP of the instruction.
    pub instruction: u64,
    /// Effective address of its operand; without one it does not matter.
    pub operand: u64,
}

/// Runs `form` on `image`.
///
/// # Safety
/// `form` came from [`on_registers`] for an opcode that exists; no exception is pending in `image`.
pub unsafe fn registers(image: &mut Fx, form: OnRegisters, flags: Flags, place: Place) -> Flags {
    let before = Kept::of(image);
    // SAFETY: the caller's promise.
    let after = unsafe { form(image, flags) };
    before.restore(image, place);
    after
}

/// Runs `form` on `image` and `operand`.
///
/// # Safety
/// `form` came from [`on_memory`] for an opcode that exists; no exception is pending in `image`.
pub unsafe fn memory(image: &mut Fx, form: OnMemory, operand: &mut [u8; 16], place: Place) {
    let before = Kept::of(image);
    // SAFETY: the caller's promise.
    unsafe { form(image, operand) };
    before.restore(image, place);
}

/// What the host's FXSAVE writes that is not the guest's.
struct Kept {
    instruction: u64,
    data: u64,
    mxcsr_mask: u32,
}

impl Kept {
    fn of(image: &Fx) -> Self {
        Self { instruction: image.instruction, data: image.data, mxcsr_mask: image.mxcsr_mask }
    }

    fn restore(self, image: &mut Fx, place: Place) {
        if image.instruction != self.instruction {
            image.instruction = place.instruction;
        }
        if image.data != self.data {
            image.data = place.operand;
        }
        image.mxcsr_mask = self.mxcsr_mask;
    }
}

/// What both kinds of form share: all that FXRSTOR loads is lost to the compiler.
macro_rules! on_image {
    ($($template:expr),* ; $($operands:tt)*) => {
        asm!("fxrstor64 [rdi]", $($template,)* "fxsave64 [rdi]", "fninit", "ldmxcsr [r8]",
            in("r8") &crate::vector::mxcsr::DEFAULT, $($operands)*,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _,
            out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _,
            out("xmm14") _, out("xmm15") _, out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _, out("st(4)") _,
            out("st(5)") _, out("st(6)") _, out("st(7)") _, options(nostack))
    };
}

unsafe fn register_form<const OPCODE: u8, const MODRM: u8>(image: &mut Fx, flags: Flags) -> Flags {
    let mut ax = flags.0;
    // SAFETY: reads and writes the image (512 bytes, aligned); the caller promises that the opcode exists and that nothing
    // is pending; what it raises stays pending in the image, and the host's FPU is reset.
    unsafe {
        on_image!("add al, 127", "sahf", ".byte {opcode}, {modrm}", "lahf", "seto al";
            in("rdi") image, opcode = const OPCODE, modrm = const MODRM, inout("ax") ax);
    }
    Flags(ax)
}

unsafe fn memory_form<const OPCODE: u8, const DIGIT: u8>(image: &mut Fx, operand: &mut [u8; 16]) {
    // SAFETY: as above; the operand is [rsi], at most ten of its sixteen bytes.
    unsafe {
        on_image!(".byte {opcode}, {modrm}";
            in("rdi") image, in("rsi") operand, opcode = const OPCODE, modrm = const DIGIT << 3 | 6);
    }
}

macro_rules! eight {
    ($function:ident, $opcode:literal, $first:literal) => {
        [
            $function::<$opcode, { $first }>,
            $function::<$opcode, { $first + 1 }>,
            $function::<$opcode, { $first + 2 }>,
            $function::<$opcode, { $first + 3 }>,
            $function::<$opcode, { $first + 4 }>,
            $function::<$opcode, { $first + 5 }>,
            $function::<$opcode, { $first + 6 }>,
            $function::<$opcode, { $first + 7 }>,
        ]
    };
}
macro_rules! opcode {
    ($opcode:literal) => {
        [
            eight!(register_form, $opcode, 0xc0),
            eight!(register_form, $opcode, 0xc8),
            eight!(register_form, $opcode, 0xd0),
            eight!(register_form, $opcode, 0xd8),
            eight!(register_form, $opcode, 0xe0),
            eight!(register_form, $opcode, 0xe8),
            eight!(register_form, $opcode, 0xf0),
            eight!(register_form, $opcode, 0xf8),
        ]
    };
}

static REGISTERS: [[[OnRegisters; 8]; 8]; 8] = [
    opcode!(0xd8),
    opcode!(0xd9),
    opcode!(0xda),
    opcode!(0xdb),
    opcode!(0xdc),
    opcode!(0xdd),
    opcode!(0xde),
    opcode!(0xdf),
];

static MEMORY: [[OnMemory; 8]; 8] = [
    eight!(memory_form, 0xd8, 0),
    eight!(memory_form, 0xd9, 0),
    eight!(memory_form, 0xda, 0),
    eight!(memory_form, 0xdb, 0),
    eight!(memory_form, 0xdc, 0),
    eight!(memory_form, 0xdd, 0),
    eight!(memory_form, 0xde, 0),
    eight!(memory_form, 0xdf, 0),
];

/// The register form with these two bytes (only their low bits count: D8–DF, C0–FF).
pub fn on_registers(opcode: u8, modrm: u8) -> OnRegisters {
    REGISTERS[usize::from(opcode & 7)][usize::from(modrm >> 3 & 7)][usize::from(modrm & 7)]
}

/// The memory form with this opcode and `reg` field of the ModRM byte.
pub fn on_memory(opcode: u8, digit: u8) -> OnMemory {
    MEMORY[usize::from(opcode & 7)][usize::from(digit & 7)]
}
