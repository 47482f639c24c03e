//! One virtual processor: its state, and what handlers use to fault, jump and stop.

use std::sync::Arc;

use bulkhead_hypervisor::x86_64::processor::Place;
use bulkhead_memory::GuestMemory;

use crate::apic::Apic;
use crate::block::Blocks;
use crate::debugger::Debugger;
use crate::engine::Doorbells;
use crate::fault::{Exception, Raised, Stop};
use crate::memory::tlb::{Bank, Tlb};
use crate::memory::{Ram, Replay};
use crate::op::{At, Next};
use crate::run::Activity;
use crate::state::{
    Control, DebugRegisters, Flags, Fx, Msrs, Reg, Registers, Segment, SegmentName, Table, cr0,
    cr4, efer, rflags,
};
use crate::system::{Clock, Leaves, Rota, Spinning};
use crate::tally::Tally;
use crate::trace::Trace;

/// What the meaning of instruction bytes depends on: part of every block's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mode(pub(crate) u32);

impl Mode {
    const LONG: u32 = 1;
    const BIG_CODE: u32 = 1 << 1;
    const BIG_STACK: u32 = 1 << 2;
    const PROTECTED: u32 = 1 << 3;
    const TS: u32 = 1 << 4;
    const EM: u32 = 1 << 5;
    const MP: u32 = 1 << 6;
    const OSFXSR: u32 = 1 << 7;
    /// The block is to hold one instruction only.
    pub(crate) const ALONE: u32 = 1 << 8;
    /// Level 3: what a link skips is the check whether the page may be executed.
    const USER: u32 = 1 << 9;
    /// Level 0: what it may do need not be asked again.
    const KERNEL: u32 = 1 << 10;

    const fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }

    /// 64-bit code.
    pub const fn is_long(self) -> bool {
        self.has(Self::LONG)
    }

    /// Bits of code: 16, 32 or 64.
    pub const fn bits(self) -> u32 {
        match (self.has(Self::LONG), self.has(Self::BIG_CODE)) {
            (true, _) => 64,
            (false, true) => 32,
            (false, false) => 16,
        }
    }

    /// Bits of the stack pointer: 16, 32 or 64.
    pub const fn stack_bits(self) -> u32 {
        match (self.has(Self::LONG), self.has(Self::BIG_STACK)) {
            (true, _) => 64,
            (false, true) => 32,
            (false, false) => 16,
        }
    }

    /// CR0.PE.
    pub const fn is_protected(self) -> bool {
        self.has(Self::PROTECTED)
    }

    /// CR0.TS: x87, MMX and SSE instructions raise #NM.
    pub const fn is_task_switched(self) -> bool {
        self.has(Self::TS)
    }

    /// CR0.EM: there is no x87 (#NM), nor MMX or SSE (#UD).
    pub const fn is_emulated(self) -> bool {
        self.has(Self::EM)
    }

    /// CR0.MP: `fwait` looks at TS.
    pub const fn is_monitored(self) -> bool {
        self.has(Self::MP)
    }

    /// Level 0.
    pub const fn is_kernel(self) -> bool {
        self.has(Self::KERNEL)
    }

    /// Level 3.
    pub const fn is_user(self) -> bool {
        self.has(Self::USER)
    }

    /// CR4.OSFXSR: SSE instructions are allowed.
    pub const fn has_sse(self) -> bool {
        self.has(Self::OSFXSR)
    }
}

/// One virtual processor.
pub struct Cpu {
    /// General registers, RIP of the running block, segment bases.
    pub regs: Registers,
    /// The arithmetic flags.
    pub flags: Flags,
    /// Privilege level.
    pub cpl: u8,
    /// What instruction bytes mean now.
    pub mode: Mode,
    /// All flags but the arithmetic ones, in their places in RFLAGS.
    pub system_flags: u64,
    /// Why the handlers came back, if they returned [`Next::LOOKUP`].
    pub stop: Stop,
    /// Translations.
    pub tlb: Tlb,
    /// x87, MMX, SSE.
    pub fx: Fx,
    /// Control registers.
    pub control: Control,
    /// XCR0.
    pub xcr0: u64,
    /// ES, CS, SS, DS, FS, GS.
    pub segments: [Segment; 6],
    /// Local descriptor table.
    pub ldt: Segment,
    /// Task state segment.
    pub task: Segment,
    /// Global descriptor table.
    pub gdt: Table,
    /// Interrupt descriptor table.
    pub idt: Table,
    /// Debug registers.
    pub debug: DebugRegisters,
    /// Model-specific registers.
    pub msrs: Msrs,
    /// Interrupts wait one more instruction (behind `sti` and loads of SS).
    pub(crate) shadow: bool,
    /// And so do debug traps (behind loads of SS): stack segment and pointer are loaded as one.
    pub(crate) holds_traps: bool,
    /// Length of the `int` that `Stop::Software` tells of.
    pub(crate) software_len: u8,
    /// Whether it executes.
    pub(crate) activity: Activity,
    /// The instruction at RIP has to run alone.
    pub(crate) restarts_alone: bool,
    /// And no other vCPU may execute meanwhile.
    pub(crate) restarts_exclusive: bool,
    /// No other vCPU executes.
    pub(crate) has_world: bool,
    /// A non-maskable interrupt waits.
    pub(crate) nmi_pending: bool,
    /// One is being handled: until `iret`.
    pub(crate) nmi_blocked: bool,
    /// Interrupts taken so far.
    pub interrupts: u64,
    /// Exceptions raised so far.
    pub exceptions: u64,
    /// Page-directory pointers, which PAE keeps in the processor.
    pub(crate) pae_pointers: [u64; 4],
    /// Breakpoints that the instruction under way has met: bits of DR6.
    pub(crate) debug_pending: u64,
    /// What a debugger outside the guest wants.
    pub(crate) debugger: Debugger,
    /// Every access takes the slow way: alignment checks or data breakpoints are on.
    pub(crate) is_strict: bool,
    /// Alignment checks are on at level 3.
    pub(crate) checks_alignment: bool,
    /// The instruction under way is the only one of its block.
    pub(crate) is_alone: bool,
    /// Guest RAM.
    pub(crate) ram: Arc<Ram>,
    /// Decoded code.
    pub(crate) blocks: Blocks,
    /// Accesses that left the processor.
    pub replay: Replay,
    /// The local APIC.
    pub(crate) apic: Apic,
    /// Guest writes that ring instead of leaving.
    pub(crate) doorbells: Arc<Doorbells>,
    /// The machine's clock.
    pub(crate) clock: Clock,
    /// How it waits for other vCPUs.
    pub(crate) spinning: Spinning,
    /// What `cpuid` answers.
    pub(crate) leaves: Leaves,
    /// Instructions executed, counted block by block.
    pub executed: u64,
    /// Instructions of a turn.
    pub(crate) slice: u32,
    /// Ticks that a clock which counts instructions has been put forward by.
    pub(crate) slept: u64,
    /// Of a machine with such a clock.
    pub(crate) rota: Arc<Rota>,
    /// Accesses that took the slow way.
    pub(crate) slow_calls: u64,
    /// Where all counters are copied to.
    pub(crate) tally: Arc<Tally>,
    /// Where what it executes is told, if anybody wants to know.
    pub(crate) trace: Option<Box<Trace>>,
}

impl Cpu {
    /// A processor with nothing but RAM around it: for tests of single instructions.
    pub fn alone(ram: Arc<Ram>) -> Option<Self> {
        if crate::host_cpu::HostCpu::probe().missing().is_some() {
            return None;
        }
        let clock = Clock::start();
        let place = bulkhead_hypervisor::x86_64::processor::Place { index: 0, count: 1 };
        let leaves = Leaves::new(place, clock.frequency);
        Some(Self::new(ram, Apic::new(0, Arc::default())?, clock, leaves))
    }

    /// A processor as at power-on, of a machine with this RAM.
    pub(crate) fn new(ram: Arc<Ram>, apic: Apic, clock: Clock, leaves: Leaves) -> Self {
        let mut cpu = Self {
            regs: Registers::default(),
            flags: Flags::default(),
            cpl: 0,
            mode: Mode::default(),
            system_flags: rflags::FIXED,
            stop: Stop::Lookup,
            tlb: Tlb::default(),
            fx: Fx::default(),
            control: Control::default(),
            xcr0: 1,
            segments: [Segment::real(0); 6],
            ldt: Segment::default(),
            task: Segment::default(),
            gdt: Table { base: 0, limit: 0xffff },
            idt: Table { base: 0, limit: 0xffff },
            debug: DebugRegisters::default(),
            msrs: Msrs::default(),
            shadow: false,
            holds_traps: false,
            software_len: 0,
            activity: Activity::Running,
            restarts_alone: false,
            restarts_exclusive: false,
            has_world: false,
            nmi_pending: false,
            nmi_blocked: false,
            interrupts: 0,
            exceptions: 0,
            pae_pointers: [0; 4],
            debug_pending: 0,
            debugger: Debugger::default(),
            is_strict: false,
            checks_alignment: false,
            is_alone: false,
            ram,
            blocks: Blocks::new(),
            replay: Replay::default(),
            apic,
            doorbells: Arc::default(),
            clock,
            spinning: Spinning::default(),
            leaves,
            executed: 0,
            slice: crate::run::SLICE,
            slept: 0,
            rota: Arc::default(),
            slow_calls: 0,
            tally: Arc::default(),
            trace: None,
        };
        cpu.power_on();
        cpu
    }

    /// A processor of its own, without a machine around it: for tests of single instructions.
    pub fn solitary(memory: &GuestMemory) -> Option<Self> {
        let (clock, place) = (Clock::start(), Place { index: 0, count: 1 });
        let leaves = Leaves::new(place, clock.frequency);
        let apic = Apic::new(0, Arc::default())?;
        Some(Self::new(Arc::new(Ram::new(memory)), apic, clock, leaves))
    }

    /// Records a fault. The handler passes what it gets to [`leave`](Self::leave).
    #[cold]
    pub fn fault(&mut self, exception: Exception) -> Raised {
        self.stop = Stop::Fault(exception);
        Raised
    }

    /// Out of a handler that cannot complete: RIP is at its instruction, and the run loop sees why.
    #[cold]
    pub fn leave(&mut self, at: At, _raised: Raised) -> Next {
        let rip = self.rip_at(at);
        self.set_rip(rip);
        Next::LOOKUP
    }

    /// Raises an exception and leaves.
    #[cold]
    pub fn raise(&mut self, at: At, exception: Exception) -> Next {
        let raised = self.fault(exception);
        self.leave(at, raised)
    }

    /// RIP of an instruction of the running block.
    #[inline(always)]
    pub fn rip_at(&self, at: At) -> u64 {
        self.regs.get::<u64>(Reg::RIP).wrapping_add(at.start.into())
    }

    /// RIP of the instruction behind it.
    #[inline(always)]
    pub fn rip_after(&self, at: At) -> u64 {
        self.rip_at(at).wrapping_add(at.len.into())
    }

    /// The instruction pointer; exact between blocks.
    #[inline(always)]
    pub fn rip(&self) -> u64 {
        self.regs.get(Reg::RIP)
    }

    /// Sets the instruction pointer, at a block's end only. Not truncated.
    #[inline(always)]
    pub fn set_rip(&mut self, rip: u64) {
        self.regs.set(Reg::RIP, rip);
    }

    /// RFLAGS as a whole.
    pub fn rflags(&self) -> u64 {
        self.system_flags | self.flags.to_rflags() | rflags::FIXED
    }

    /// Replaces RFLAGS as a whole, without checks.
    pub fn set_rflags(&mut self, bits: u64) {
        let before = self.system_flags;
        self.flags = Flags::from_rflags(bits);
        self.system_flags = bits & !rflags::ARITHMETIC & 0x3f_7fd7 | rflags::FIXED;
        if (before ^ self.system_flags) & (rflags::AC | rflags::TF) != 0 {
            self.refresh();
        }
    }

    /// Whether string instructions go down.
    #[inline(always)]
    pub fn goes_down(&self) -> bool {
        self.system_flags & rflags::DF != 0
    }

    /// Works out anew what is derived from segments, control registers, privilege level and flags: to be
    /// called after each change of these.
    pub fn refresh(&mut self) {
        let code = self.segments[SegmentName::Cs as usize];
        let stack = self.segments[SegmentName::Ss as usize];
        let is_long = self.control.efer & efer::LMA != 0 && code.long;
        let (c0, c4) = (self.control.cr0, self.control.cr4);
        let bits = [
            (is_long, Mode::LONG),
            (code.big, Mode::BIG_CODE),
            (stack.big, Mode::BIG_STACK),
            (c0 & cr0::PE != 0, Mode::PROTECTED),
            (c0 & cr0::TS != 0, Mode::TS),
            (c0 & cr0::EM != 0, Mode::EM),
            (self.cpl == 3, Mode::USER),
            (self.cpl == 0, Mode::KERNEL),
            (c0 & cr0::MP != 0, Mode::MP),
            (c4 & cr4::OSFXSR != 0, Mode::OSFXSR),
        ];
        let bits = bits.into_iter().filter(|(applies, _)| *applies);
        self.mode = Mode(bits.fold(0, |mode, (_, bit)| mode | bit));
        for (number, segment) in (0..).zip(&self.segments) {
            let has_base = !is_long || number >= SegmentName::Fs as u8;
            self.regs.set(Reg::base_of(number), if has_base { segment.base } else { 0 });
        }
        let is_user = self.cpl == 3;
        self.checks_alignment = c0 & cr0::AM != 0 && self.system_flags & rflags::AC != 0 && is_user;
        let watches = self.watches_data() || self.debugger.watches();
        self.is_strict = self.checks_alignment || watches;
        self.select_bank();
    }

    /// The TLB's bank for explicit accesses at this level.
    pub(crate) fn select_bank(&mut self) {
        let is_user = self.cpl == 3;
        self.tlb.select(match (self.is_strict, is_user, self.system_flags & rflags::AC != 0) {
            (true, ..) => Bank::Strict,
            (_, true, _) => Bank::User,
            (_, false, true) => Bank::SupervisorAc,
            (_, false, false) => Bank::Supervisor,
        });
    }
}
