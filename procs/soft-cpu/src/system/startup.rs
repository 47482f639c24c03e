//! Power-on, INIT and the start-up message (Intel SDM volume 3, 10.1 and 10.4).

use crate::cpu::Cpu;
use crate::state::{Control, DebugRegisters, Flags, Reg, Segment, SegmentName, Table, cr0, rflags};

/// Memory types as firmware leaves them: everything write-back, unless a page says otherwise.
const MTRR_DEFAULT: u64 = 1 << 11 | 6;
/// The page attribute table at power-on.
const PAT: u64 = 0x0007_0406_0007_0406;

impl Cpu {
    /// INIT: everything but x87 and SSE state, model-specific registers and caches.
    pub(crate) fn initialize(&mut self) {
        let kept = self.control.cr0 & (cr0::NW | cr0::CD);
        for number in 0..16 {
            self.regs.set(Reg::general(number), 0u64);
        }
        // The processor's signature, as leaf 1 of CPUID tells it.
        self.regs.set(Reg::RDX, 0x0005_06e3u64);
        self.flags = Flags::default();
        self.system_flags = rflags::FIXED;
        self.control = Control { cr0: cr0::ET | kept, ..Control::default() };
        self.segments = [Segment::real(0); 6];
        let code = Segment { base: 0xffff_0000, kind: 0xb, ..Segment::real(0xf000) };
        self.segments[SegmentName::Cs as usize] = code;
        self.ldt = Segment { limit: 0xffff, kind: 2, present: true, ..Segment::default() };
        self.task = Segment { limit: 0xffff, kind: 0xb, present: true, ..Segment::default() };
        self.gdt = Table { base: 0, limit: 0xffff };
        self.idt = Table { base: 0, limit: 0xffff };
        self.debug = DebugRegisters::default();
        self.debug_pending = 0;
        self.cpl = 0;
        (self.shadow, self.nmi_pending, self.nmi_blocked) = (false, false, false);
        self.holds_traps = false;
        self.replay.clear();
        self.apic.reset();
        self.flush_all();
        self.enter_space();
        self.refresh();
        self.set_rip(0xfff0);
    }

    /// What firmware would have set up, and power-on does.
    pub(crate) fn power_on(&mut self) {
        self.initialize();
        self.msrs.pat = PAT;
        self.msrs.mtrr_default = MTRR_DEFAULT;
        self.msrs.misc_enable = 1;
    }

    /// A start-up message: real mode at page `vector`.
    pub(crate) fn start_up(&mut self, vector: u8) {
        self.set_real_code(Segment { kind: 0xb, ..Segment::real(u16::from(vector) << 8) }, 0);
    }
}
