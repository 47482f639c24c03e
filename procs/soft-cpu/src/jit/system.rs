//! Instructions of kernels that are short enough to be compiled: the interrupt flag, the way to users' pages, the flags
//! as a whole, `swapgs`, the time-stamp counter, selectors.
//!
//! What asks for privilege is compiled in level 0's blocks only, where the answer is known: the level is part of a
//! block's key.
//!
//! Absent on purpose: whatever switches address spaces or changes the level: that is the interpreter's, which then looks
//! up where to go on; and opening interrupts where one may wait, or behind the block's last instruction.

use std::mem::offset_of;

use iced_x86::{Instruction, Mnemonic as M, OpKind};

use super::compile::Compiler;
use super::emit::{A, B, Host, Opcode, Place, RAX, RDX, Rm, STACK, condition};
use super::layout::{self, Home, slot};
use crate::apic::Apic;
use crate::cpu::Cpu;
use crate::memory::tlb::{ENTRIES, Entry, Tlb};
use crate::op::Op;
use crate::select;
use crate::state::{Control, Msrs, Reg, Segment, SegmentName, cr4, rflags};

/// An instruction of this kind.
#[derive(Debug, Clone, Copy)]
pub(super) enum System {
    CloseInterrupts,
    /// Whose signals lie at this address of the host's.
    OpenInterrupts {
        signals: u64,
    },
    /// Or closes it.
    OpenUserPages(bool),
    PushFlags,
    SwapBases,
    /// Of a machine whose clock began at this count of the host's.
    ReadCounter {
        start: u64,
        with_number: bool,
    },
    /// Into a general register, whose upper part is cleared unless it is `narrow`.
    StoreSelector {
        segment: SegmentName,
        to: u8,
        narrow: bool,
    },
}

impl System {
    /// What is compiled of an instruction for this processor as it is; `is_last` of its block.
    pub(super) fn of(instruction: &Instruction, cpu: &Cpu, is_last: bool) -> Option<Self> {
        let is_kernel = cpu.mode.is_kernel();
        Some(match instruction.mnemonic() {
            M::Cli if is_kernel => Self::CloseInterrupts,
            M::Sti if is_kernel && !is_last => {
                let signals = std::ptr::from_ref(&cpu.apic.mailbox.signals) as u64;
                Self::OpenInterrupts { signals }
            }
            M::Stac | M::Clac if is_kernel => {
                Self::OpenUserPages(instruction.mnemonic() == M::Stac)
            }
            M::Pushfq => Self::PushFlags,
            M::Swapgs if is_kernel => Self::SwapBases,
            M::Rdtsc | M::Rdtscp if is_kernel && !cpu.clock.counts => {
                let with_number = instruction.mnemonic() == M::Rdtscp;
                Self::ReadCounter { start: cpu.clock.start, with_number }
            }
            M::Mov if instruction.op0_kind() == OpKind::Register => {
                let to = instruction.op0_register();
                let segment = select::segment(instruction.op1_register())?;
                Self::StoreSelector { segment, to: to.number() as u8, narrow: to.is_gpr16() }
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
            System::OpenInterrupts { signals } => self.open_interrupts(signals, op),
            System::OpenUserPages(open) => self.open_user_pages(open, op),
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
            System::StoreSelector { segment: name, to, narrow } => {
                let from = segment(name, offset_of!(Segment, selector));
                // movzx r10d, word ptr
                self.code.encode(Opcode::narrow(&[0x0f, 0xb7]), A, Rm::Memory(from), &[]);
                let prefixes: &[u8] = if narrow { &[0x66] } else { &[] };
                let mov = Opcode { prefixes, wide: !narrow, rex: false, bytes: &[0x89] };
                let to = match layout::home(to) {
                    Home::Host(host) => Rm::Register(host),
                    Home::File(reg) => Rm::Memory(layout::file(reg)),
                };
                self.code.encode(mov, A, to, &[]);
            }
        }
    }

    /// The interpreter does it where an interrupt may wait.
    fn open_interrupts(&mut self, signals: u64, op: *const Op) {
        self.flags_to_memory();
        self.code.constant(A, signals);
        // cmp dword ptr [r10], 0
        self.code.encode(Opcode::narrow(&[0x83]), 7, Rm::Memory(Place::at(A, 0)), &[0]);
        let has_signals = self.code.branch_ahead(condition::NOT_EQUAL);
        let [first, rest @ ..] = Apic::requests().map(|at| layout::at(offset_of!(Cpu, apic) + at));
        self.code.load(A, first);
        for word in rest {
            self.code.encode(Opcode::wide(&[0x0b]), A, Rm::Memory(word), &[]);
        }
        let has_requests = self.code.branch_ahead(condition::NOT_EQUAL);
        let nmi = layout::at(offset_of!(Cpu, nmi_pending));
        self.code.encode(Opcode::narrow(&[0x80]), 7, Rm::Memory(nmi), &[0]);
        let has_nmi = self.code.branch_ahead(condition::NOT_EQUAL);
        let flags = layout::at(offset_of!(Cpu, system_flags) + 1);
        self.code.encode(Opcode::narrow(&[0x80]), 1, Rm::Memory(flags), &[(rflags::IF >> 8) as u8]);
        for hole in [has_signals, has_requests, has_nmi] {
            self.rejoin(hole, op);
        }
    }

    /// The banks with and without the way to them lie one behind the other.
    fn open_user_pages(&mut self, open: bool, op: *const Op) {
        const BANK: i32 = ENTRIES as i32;
        const TEST: [u8; 1] = [0xf6];
        self.flags_to_memory();
        let features = layout::at(offset_of!(Cpu, control) + offset_of!(Control, cr4) + 2);
        let smap = (cr4::SMAP >> 16) as u8;
        self.code.encode(Opcode::narrow(&TEST), 0, Rm::Memory(features), &[smap]);
        let is_off = self.code.branch_ahead(condition::EQUAL);
        let (flags, ac) = (layout::at(offset_of!(Cpu, system_flags) + 2), (rflags::AC >> 16) as u8);
        self.code.encode(Opcode::narrow(&TEST), 0, Rm::Memory(flags), &[ac]);
        let is_so =
            self.code.branch_ahead(if open { condition::NOT_EQUAL } else { condition::EQUAL });
        // xor byte ptr; add qword ptr; add qword ptr
        self.code.encode(Opcode::narrow(&[0x80]), 6, Rm::Memory(flags), &[ac]);
        let by = if open { BANK } else { -BANK };
        let number = layout::at(offset_of!(Cpu, tlb) + Tlb::BANK);
        for (place, by) in [(number, by), (layout::file(slot::TLB), by * size_of::<Entry>() as i32)]
        {
            self.code.encode(Opcode::wide(&[0x81]), 0, Rm::Memory(place), &by.to_le_bytes());
        }
        self.code.bind(is_so);
        self.rejoin(is_off, op);
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
