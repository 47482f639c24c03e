//! FLDENV, FNSTENV, FRSTOR, FNSAVE, FXSAVE, FXRSTOR: all of the x87 state, or x87, MMX and SSE together.
//!
//! Their operands are long enough to cross pages often. Where one of the pages is missing, `probe` makes the fault name the
//! byte that the host's CPU names.

use super::control;
use super::environment::{self, Format};
use super::handlers::{read, through, wait, write};
use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::{Exception, Raised, vector};
use crate::memory::is_canonical;
use crate::op::{At, Next, Op};
use crate::state::Fx;
use crate::vector::mxcsr;

/// Byte `index` of the operand by itself: the CPU looks there first, and so faults there first, when it saves or restores a
/// whole state.
fn probe(cpu: &mut Cpu, at: At, index: usize, write: bool) -> Result<(), Raised> {
    let op = Op { displacement: at.displacement.wrapping_add(index as u64), ..*at };
    // SAFETY: the operation outlives its use as an operand, and nobody goes on from it.
    let there = unsafe { At::new(&op) };
    if write {
        cpu.writable(there, 1)?;
    } else {
        cpu.read::<u8>(there)?;
    }
    Ok(())
}

/// The order in which FNSAVE and its like look: the first byte, then the last.
fn probe_ends(cpu: &mut Cpu, at: At, size: usize, write: bool) -> Result<(), Raised> {
    probe(cpu, at, 0, write)?;
    probe(cpu, at, size - 1, write)
}

/// FLDENV.
pub fn fldenv<const FORMAT: u8>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    attempt!(cpu, at, load_environment(cpu, at, Format::of(FORMAT)));
    at.next(cpu)
}

fn load_environment(cpu: &mut Cpu, at: At, format: Format) -> Result<(), Raised> {
    let mut bytes = [0; 28];
    probe_ends(cpu, at, format.bytes(), false)?;
    read(cpu, at, &mut bytes[..format.bytes()])?;
    environment::load_environment(&mut cpu.fx, &bytes, format);
    Ok(())
}

/// FNSTENV: afterwards all exceptions are masked.
pub fn fnstenv<const FORMAT: u8>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, store_environment(cpu, at, Format::of(FORMAT)));
    let word = cpu.fx.control | 0x3f;
    control::load_control(&mut cpu.fx, word);
    at.next(cpu)
}

fn store_environment(cpu: &mut Cpu, at: At, format: Format) -> Result<(), Raised> {
    let bytes = environment::environment(&cpu.fx, format);
    probe_ends(cpu, at, format.bytes(), true)?;
    write(cpu, at, &bytes[..format.bytes()])
}

/// FRSTOR.
pub fn frstor<const FORMAT: u8>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    attempt!(cpu, at, load_all(cpu, at, Format::of(FORMAT)));
    at.next(cpu)
}

fn load_all(cpu: &mut Cpu, at: At, format: Format) -> Result<(), Raised> {
    let mut bytes = [0; environment::LONGEST];
    let bytes = &mut bytes[..format.bytes() + 80];
    probe_ends(cpu, at, bytes.len(), false)?;
    read(cpu, at, bytes)?;
    let (head, registers) = bytes.split_at(format.bytes());
    let mut environment = [0; 28];
    environment[..head.len()].copy_from_slice(head);
    environment::load_environment(&mut cpu.fx, &environment, format);
    environment::load_registers(&mut cpu.fx, registers);
    Ok(())
}

/// FNSAVE: afterwards as after FNINIT.
pub fn fnsave<const FORMAT: u8>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, store_all(cpu, at, Format::of(FORMAT)));
    control::initialize(&mut cpu.fx);
    at.next(cpu)
}

fn store_all(cpu: &mut Cpu, at: At, format: Format) -> Result<(), Raised> {
    let mut bytes = [0; environment::LONGEST];
    let bytes = &mut bytes[..format.bytes() + 80];
    let (head, registers) = bytes.split_at_mut(format.bytes());
    head.copy_from_slice(&environment::environment(&cpu.fx, format)[..head.len()]);
    registers.copy_from_slice(&environment::registers(&cpu.fx));
    probe_ends(cpu, at, bytes.len(), true)?;
    write(cpu, at, bytes)
}

/// How much FXSAVE and FXRSTOR move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Registers {
    /// Outside 64-bit mode: XMM0–XMM7, pointers of 32 bits.
    Eight,
    /// In 64-bit mode: XMM0–XMM15, pointers of 32 bits.
    Sixteen,
    /// With REX.W: pointers of 64 bits.
    SixteenWide,
}

impl Registers {
    /// The image up to the last XMM register; what is behind it is not touched.
    fn bytes(self) -> usize {
        if self == Self::Eight { 288 } else { 416 }
    }

    fn of(value: u8) -> Self {
        match value {
            0 => Self::Eight,
            1 => Self::Sixteen,
            _ => Self::SixteenWide,
        }
    }
}

/// FXSAVE.
pub fn fxsave<const REGISTERS: u8>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, save(cpu, at, Registers::of(REGISTERS)));
    at.next(cpu)
}

/// The address must be a multiple of 16.
fn aligned(cpu: &mut Cpu, at: At, size: usize, write: bool) -> Result<u64, Raised> {
    let linear = cpu.address(at, size as u32, write)?;
    if linear & 15 != 0 {
        // An address that is none at all is worse, and on the stack has another name.
        let is_address = !cpu.mode.is_long() || is_canonical(linear);
        let vector = if at.shape.is_stack() && !is_address { vector::SS } else { vector::GP };
        return Err(cpu.fault(Exception::with_code(vector, 0)));
    }
    probe(cpu, at, size - 1, write)?;
    Ok(linear)
}

fn save(cpu: &mut Cpu, at: At, registers: Registers) -> Result<(), Raised> {
    let linear = aligned(cpu, at, 512, true)?;
    let mut bytes = cpu.fx.to_bytes();
    if registers != Registers::SixteenWide {
        // The selectors, which current CPUs store as zero.
        bytes[12..16].fill(0);
        bytes[20..24].fill(0);
    }
    cpu.store_bytes(linear, &bytes[..registers.bytes()], through(at))
}

/// FXRSTOR. Reserved bits of MXCSR are #GP. Ends the block, as LDMXCSR does.
pub fn fxrstor<const REGISTERS: u8>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, restore(cpu, at, Registers::of(REGISTERS)));
    at.end(cpu)
}

/// The FPU's instruction pointer has 57 bits, and the others are copies of the last.
fn canonical(pointer: u64) -> u64 {
    ((pointer << 7) as i64 >> 7) as u64
}

fn restore(cpu: &mut Cpu, at: At, registers: Registers) -> Result<(), Raised> {
    let linear = aligned(cpu, at, 512, false)?;
    let mut bytes = cpu.fx.to_bytes();
    cpu.load_bytes(linear, &mut bytes[..registers.bytes()], through(at))?;
    if registers != Registers::SixteenWide {
        bytes[12..16].fill(0);
        bytes[20..24].fill(0);
    }
    let mut image = Fx::from_bytes(&bytes);
    if image.mxcsr & !mxcsr::WRITABLE != 0 {
        return Err(cpu.fault(Exception::gp(0)));
    }
    image.mxcsr_mask = cpu.fx.mxcsr_mask;
    image.reserved = 0;
    image.instruction = canonical(image.instruction);
    for register in &mut image.st {
        *register &= (1 << 80) - 1;
    }
    let word = image.control;
    control::load_control(&mut image, word);
    cpu.fx = image;
    Ok(())
}
