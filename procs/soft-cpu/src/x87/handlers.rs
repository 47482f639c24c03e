//! The x87 instructions on registers and memory.
//!
//! Waiting instructions first raise the exception that an earlier one left pending. A store runs on a copy of the image, which
//! counts only once the memory is written.

use super::environment::{self, Format};
use super::{control, run};
use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::{Exception, Raised, vector};
use crate::memory::access::Through;
use crate::memory::is_canonical;
use crate::op::{AddressSize, At, Next, Op};
use crate::state::{Fx, Reg};
use crate::vector::mxcsr;

/// A pending exception is #MF.
#[inline(always)]
pub fn wait(cpu: &mut Cpu) -> Result<(), Raised> {
    if control::is_pending(&cpu.fx) {
        return Err(cpu.fault(Exception::MF));
    }
    Ok(())
}

/// FWAIT.
pub fn fwait(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    at.next(cpu)
}

/// What the 287 and its successors ignore.
pub fn nothing(cpu: &mut Cpu, at: At) -> Next {
    at.next(cpu)
}

fn place(cpu: &Cpu, at: At) -> run::Place {
    let operand = match at.shape.size() {
        AddressSize::Bits64 => cpu.offset(at),
        AddressSize::Bits32 => cpu.offset(at) & 0xffff_ffff,
        AddressSize::Bits16 => cpu.offset(at) & 0xffff,
    };
    run::Place { instruction: cpu.rip_at(at), operand }
}

/// The two bytes that `imm` holds: opcode, and ModRM or its `reg` field.
fn bytes(at: At) -> (u8, u8) {
    ((at.imm >> 8) as u8, at.imm as u8)
}

/// Any form without memory.
pub fn on_registers(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    let (opcode, modrm) = bytes(at);
    let place = place(cpu, at);
    let form = run::on_registers(opcode, modrm);
    // SAFETY: `select::form` lists opcodes that exist, and `wait` found nothing pending.
    cpu.flags = unsafe { run::registers(&mut cpu.fx, form, cpu.flags, place) };
    at.next(cpu)
}

/// Any form that reads `SIZE` bytes.
pub fn load<const SIZE: usize>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    attempt!(cpu, at, load_and_run::<SIZE>(cpu, at));
    at.next(cpu)
}

fn load_and_run<const SIZE: usize>(cpu: &mut Cpu, at: At) -> Result<(), Raised> {
    let mut operand = [0; 16];
    read(cpu, at, &mut operand[..SIZE])?;
    let (opcode, digit) = bytes(at);
    let place = place(cpu, at);
    let form = run::on_memory(opcode, digit);
    // SAFETY: `select::form` lists opcodes that exist, and `wait` found nothing pending.
    unsafe { run::memory(&mut cpu.fx, form, &mut operand, place) };
    Ok(())
}

/// Any form that writes `SIZE` bytes.
pub fn store<const SIZE: usize>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    attempt!(cpu, at, run_and_store::<SIZE>(cpu, at));
    at.next(cpu)
}

fn run_and_store<const SIZE: usize>(cpu: &mut Cpu, at: At) -> Result<(), Raised> {
    let (opcode, digit) = bytes(at);
    let place = place(cpu, at);
    let mut image = cpu.fx.clone();
    // An unmasked exception makes the FPU not write at all, which shows as the operand's old value.
    let mut operand = [0; 16];
    let mut again = [0xff; 16];
    let mut second = image.clone();
    let form = run::on_memory(opcode, digit);
    // SAFETY: `select::form` lists opcodes that exist, and `wait` found nothing pending.
    unsafe { run::memory(&mut image, form, &mut operand, place) };
    // SAFETY: as above.
    unsafe { run::memory(&mut second, form, &mut again, place) };
    if operand[..SIZE] == again[..SIZE] {
        write(cpu, at, &operand[..SIZE])?;
    }
    cpu.fx = image;
    Ok(())
}

fn through(at: At) -> Through {
    if at.shape.is_stack() { Through::Stack } else { Through::Data }
}

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

fn read(cpu: &mut Cpu, at: At, into: &mut [u8]) -> Result<(), Raised> {
    let linear = cpu.address(at, into.len() as u32, false)?;
    cpu.load_bytes(linear, into, through(at))
}

fn write(cpu: &mut Cpu, at: At, from: &[u8]) -> Result<(), Raised> {
    let linear = cpu.address(at, from.len() as u32, true)?;
    cpu.store_bytes(linear, from, through(at))
}

/// FNINIT.
pub fn fninit(cpu: &mut Cpu, at: At) -> Next {
    control::initialize(&mut cpu.fx);
    at.next(cpu)
}

/// FNCLEX.
pub fn fnclex(cpu: &mut Cpu, at: At) -> Next {
    control::clear_exceptions(&mut cpu.fx);
    at.next(cpu)
}

/// FLDCW.
pub fn fldcw(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    let word = attempt!(cpu, at, cpu.read(at));
    control::load_control(&mut cpu.fx, word);
    at.next(cpu)
}

/// FNSTCW.
pub fn fnstcw(cpu: &mut Cpu, at: At) -> Next {
    let word = cpu.fx.control;
    attempt!(cpu, at, cpu.write(at, word));
    at.next(cpu)
}

/// FNSTSW to memory.
pub fn fnstsw(cpu: &mut Cpu, at: At) -> Next {
    let word = cpu.fx.status;
    attempt!(cpu, at, cpu.write(at, word));
    at.next(cpu)
}

/// FNSTSW AX.
pub fn fnstsw_ax(cpu: &mut Cpu, at: At) -> Next {
    let word = cpu.fx.status;
    cpu.regs.set(Reg::RAX, word);
    at.next(cpu)
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

/// FXRSTOR. Reserved bits of MXCSR are #GP.
pub fn fxrstor<const REGISTERS: u8>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, restore(cpu, at, Registers::of(REGISTERS)));
    at.next(cpu)
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
