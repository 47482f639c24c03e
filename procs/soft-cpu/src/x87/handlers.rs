//! The x87 instructions on registers and memory, but for those that move the whole state (`whole`).
//!
//! Waiting instructions first raise the exception that an earlier one left pending. A store runs on a copy of the image, which
//! counts only once the memory is written.

use super::{control, run};
use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::{Exception, Raised};
use crate::memory::access::Through;
use crate::op::{AddressSize, At, Next};
use crate::state::Reg;

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

pub(super) fn through(at: At) -> Through {
    if at.shape.is_stack() { Through::Stack } else { Through::Data }
}

pub(super) fn read(cpu: &mut Cpu, at: At, into: &mut [u8]) -> Result<(), Raised> {
    let linear = cpu.address(at, into.len() as u32, false)?;
    cpu.load_bytes(linear, into, through(at))
}

pub(super) fn write(cpu: &mut Cpu, at: At, from: &[u8]) -> Result<(), Raised> {
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
