//! Instructions of kernels that are short enough to be compiled: the interrupt flag, the flags as a whole, `swapgs`,
//! the time-stamp counter, selectors.
//!
//! What asks for privilege is compiled in level 0's blocks only, where the answer is known: the level is part of a
//! block's key.
//!
//! Absent on purpose: whatever may open interrupts, switch address spaces or change the level: that is the
//! interpreter's, which then looks up where to go on.

use std::mem::offset_of;

use iced_x86::{Instruction, Mnemonic as M, OpKind};

use super::compile::Compiler;
use super::emit::{A, B, Host, Opcode, Place, RAX, RDX, Rm, STACK};
use super::layout::{self, Home};
use crate::cpu::Cpu;
use crate::op::Op;
use crate::select;
use crate::state::{Msrs, Reg, Segment, SegmentName, rflags};

/// An instruction of this kind.
#[derive(Debug, Clone, Copy)]
pub(super) enum System {
    CloseInterrupts,
    PushFlags,
    SwapBases,
    /// Of a machine whose clock began at this count of the host's.
    ReadCounter {
        start: u64,
        with_number: bool,
    },
    /// Into a general register, whose upper part is cleared.
    StoreSelector {
        segment: SegmentName,
        to: u8,
    },
}

impl System {
    /// What is compiled of an instruction for this processor as it is.
    pub(super) fn of(instruction: &Instruction, cpu: &Cpu) -> Option<Self> {
        let is_kernel = cpu.mode.is_kernel();
        Some(match instruction.mnemonic() {
            M::Cli if is_kernel => Self::CloseInterrupts,
            M::Pushfq => Self::PushFlags,
            M::Swapgs if is_kernel => Self::SwapBases,
            M::Rdtsc | M::Rdtscp if is_kernel && !cpu.clock.counts => {
                let with_number = instruction.mnemonic() == M::Rdtscp;
                Self::ReadCounter { start: cpu.clock.start, with_number }
            }
            M::Mov if instruction.op0_kind() == OpKind::Register => {
                let to = instruction.op0_register();
                let is_wide = to.is_gpr32() || to.is_gpr64();
                let segment = select::segment(instruction.op1_register())?;
                is_wide.then(|| Self::StoreSelector { segment, to: to.number() as u8 })?
            }
            _ => return None,
        })
    }
}

fn segment(name: SegmentName, field: usize) -> Place {
    layout::at(offset_of!(Cpu, segments) + name as usize * size_of::<Segment>() + field)
}

fn msr(field: usize) -> Place {
    layout::at(offset_of!(Cpu, msrs) + field)
}

impl Compiler<'_> {
    pub(super) fn system(&mut self, system: System, op: *const Op) {
        match system {
            System::CloseInterrupts => {
                self.flags_to_memory();
                let flags = layout::at(offset_of!(Cpu, system_flags) + 1);
                let kept = !(rflags::IF >> 8) as u8;
                self.code.encode(Opcode::narrow(&[0x80]), 4, Rm::Memory(flags), &[kept]);
            }
            System::PushFlags => {
                self.flags_to_memory();
                self.on_stack(4, -8, true, op, |this, place, free| {
                    this.load_flags(free);
                    this.code.store(place, free);
                    this.code.lea(STACK, Place::at(STACK, -8));
                });
            }
            System::SwapBases => {
                let (shown, hidden) = (
                    segment(SegmentName::Gs, offset_of!(Segment, base)),
                    msr(offset_of!(Msrs, kernel_gs_base)),
                );
                self.code.load(A, hidden);
                self.code.load(B, shown);
                self.code.store(hidden, B);
                self.code.store(shown, A);
                self.code.store(layout::file(Reg::base_of(SegmentName::Gs as u8)), A);
            }
            System::ReadCounter { start, with_number } => self.read_counter(start, with_number),
            System::StoreSelector { segment: name, to } => {
                let (home, from) = (layout::home(to), segment(name, offset_of!(Segment, selector)));
                let host = match home {
                    Home::Host(host) => host,
                    Home::File(_) => A,
                };
                // movzx r32, word ptr
                self.code.encode(Opcode::narrow(&[0x0f, 0xb7]), host, Rm::Memory(from), &[]);
                if let Home::File(reg) = home {
                    self.code.store(layout::file(reg), host);
                }
            }
        }
    }

    /// RFLAGS as they are pushed, from memory.
    fn load_flags(&mut self, to: Host) {
        const OVERFLOW: i32 = rflags::OF as i32;
        const LOW: i32 = (rflags::ARITHMETIC & 0xff) as i32;
        // movzx r32, word ptr; rol r16, 8: `lahf`'s byte below `seto`'s.
        self.code.encode(Opcode::narrow(&[0x0f, 0xb7]), to, Rm::Memory(layout::flags()), &[]);
        let rol = Opcode { prefixes: &[0x66], wide: false, rex: false, bytes: &[0xc1] };
        self.code.encode(rol, 0, Rm::Register(to), &[8]);
        // Bit 8 becomes bit 11: what is added carries into it, or is taken away again.
        self.code.arithmetic(4, to, 0x100 | LOW, false);
        self.code.arithmetic(0, to, OVERFLOW - 0x100, false);
        self.code.arithmetic(4, to, OVERFLOW | LOW, false);
        let rest = layout::at(offset_of!(Cpu, system_flags));
        self.code.encode(Opcode::wide(&[0x0b]), to, Rm::Memory(rest), &[]);
        self.code.arithmetic(4, to, !(rflags::RF | rflags::VM) as i32, true);
        self.code.arithmetic(1, to, rflags::FIXED as i32, true);
    }

    fn read_counter(&mut self, start: u64, with_number: bool) {
        self.flags_to_memory();
        let wide = Opcode::wide;
        // rdtsc; shl rdx, 32; or rax, rdx
        self.code.raw(&[0x0f, 0x31]);
        self.code.encode(wide(&[0xc1]), 4, Rm::Register(RDX), &[32]);
        self.code.encode(wide(&[0x09]), RDX, Rm::Register(RAX), &[]);
        self.code.constant(A, start);
        self.code.encode(wide(&[0x29]), A, Rm::Register(RAX), &[]);
        let offset = msr(offset_of!(Msrs, tsc_offset));
        self.code.encode(wide(&[0x03]), RAX, Rm::Memory(offset), &[]);
        // mov rdx, rax; shr rdx, 32; mov eax, eax
        self.code.mov(RDX, RAX);
        self.code.encode(wide(&[0xc1]), 5, Rm::Register(RDX), &[32]);
        self.code.encode(Opcode::narrow(&[0x89]), RAX, Rm::Register(RAX), &[]);
        if with_number {
            const RCX: Host = 1;
            let number = msr(offset_of!(Msrs, tsc_aux));
            self.code.encode(Opcode::narrow(&[0x8b]), RCX, Rm::Memory(number), &[]);
        }
    }
}
