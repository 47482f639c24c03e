//! From and to the layouts of `kvm-bindings`, in which engines exchange state.

use bulkhead_hypervisor::x86_64::{VcpuState, processor};
use kvm_bindings::{kvm_dtable, kvm_msr_entry, kvm_segment};

use super::{DebugRegisters, Flags, Reg, Segment, Table, rflags};
use crate::cpu::Cpu;
use crate::run::Activity;

/// `KVM_MP_STATE_*`.
const RUNNABLE: u32 = 0;
const UNINITIALIZED: u32 = 1;
const HALTED: u32 = 3;

impl From<Segment> for kvm_segment {
    fn from(segment: Segment) -> Self {
        Self {
            base: segment.base,
            limit: segment.limit,
            selector: segment.selector,
            type_: segment.kind,
            present: segment.present.into(),
            dpl: segment.dpl,
            db: segment.big.into(),
            s: segment.is_user.into(),
            l: segment.long.into(),
            g: segment.pages.into(),
            avl: segment.avl.into(),
            unusable: (!segment.present).into(),
            padding: 0,
        }
    }
}

impl From<kvm_segment> for Segment {
    fn from(segment: kvm_segment) -> Self {
        Self {
            selector: segment.selector,
            base: segment.base,
            limit: segment.limit,
            kind: segment.type_ & 0xf,
            is_user: segment.s != 0,
            dpl: segment.dpl & 3,
            present: segment.present != 0 && segment.unusable == 0,
            avl: segment.avl != 0,
            long: segment.l != 0,
            big: segment.db != 0,
            pages: segment.g != 0,
        }
    }
}

impl From<Table> for kvm_dtable {
    fn from(table: Table) -> Self {
        Self { base: table.base, limit: table.limit, padding: [0; 3] }
    }
}

impl From<kvm_dtable> for Table {
    fn from(table: kvm_dtable) -> Self {
        Self { base: table.base, limit: table.limit }
    }
}

impl Cpu {
    /// Everything there is to know.
    pub(crate) fn save(&mut self) -> Box<VcpuState> {
        let mut state = Box::<VcpuState>::default();
        self.save_registers(&mut state);
        self.save_system(&mut state);
        state.xsave.0[..128].copy_from_slice(&self.fx.words());
        // The header says that x87 and SSE are in use.
        state.xsave.0[128] = 3;
        state.debug.db = self.debug.addresses;
        state.debug.dr6 = self.debug.status;
        state.debug.dr7 = self.debug.control;
        self.apic.collect();
        for (index, register) in self.apic.page().iter().enumerate() {
            for (byte, value) in register.to_le_bytes().into_iter().enumerate() {
                state.lapic.regs[index * 16 + byte] = value as i8;
            }
        }
        state.mp_state.mp_state = match self.activity {
            Activity::Running => RUNNABLE,
            Activity::Halted => HALTED,
            Activity::WaitsForStartup => UNINITIALIZED,
        };
        state.events.interrupt.shadow = self.shadow.into();
        state.events.nmi.pending = self.nmi_pending.into();
        state.events.nmi.masked = self.nmi_blocked.into();
        state.msrs = processor::saved_msrs()
            .filter_map(|index| {
                let data = self.msr(index)?;
                Some(kvm_msr_entry { index, data, ..Default::default() })
            })
            .collect();
        state
    }

    fn save_registers(&self, state: &mut VcpuState) {
        let regs = &mut state.regs;
        let general = |number| self.regs.get::<u64>(Reg::general(number));
        (regs.rax, regs.rcx, regs.rdx, regs.rbx) = (general(0), general(1), general(2), general(3));
        (regs.rsp, regs.rbp, regs.rsi, regs.rdi) = (general(4), general(5), general(6), general(7));
        (regs.r8, regs.r9, regs.r10, regs.r11) = (general(8), general(9), general(10), general(11));
        (regs.r12, regs.r13) = (general(12), general(13));
        (regs.r14, regs.r15) = (general(14), general(15));
        (regs.rip, regs.rflags) = (self.rip(), self.rflags());
    }

    fn save_system(&self, state: &mut VcpuState) {
        let sregs = &mut state.sregs;
        let [es, cs, ss, ds, fs, gs] = self.segments.map(kvm_segment::from);
        (sregs.es, sregs.cs, sregs.ss) = (es, cs, ss);
        (sregs.ds, sregs.fs, sregs.gs) = (ds, fs, gs);
        (sregs.tr, sregs.ldt) = (self.task.into(), self.ldt.into());
        (sregs.gdt, sregs.idt) = (self.gdt.into(), self.idt.into());
        let control = &self.control;
        (sregs.cr0, sregs.cr2, sregs.cr3) = (control.cr0, control.cr2, control.cr3);
        (sregs.cr4, sregs.efer) = (control.cr4, control.efer);
        sregs.cr8 = u64::from(self.apic.priority() >> 4);
        sregs.apic_base = self.apic.base();
    }

    /// Replaces what a debugger may: general registers, segments, control registers, x87 and SSE.
    pub(crate) fn restore_registers(&mut self, state: &VcpuState) {
        self.replay.clear();
        let regs = &state.regs;
        let general = [
            regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi,
            regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ];
        for (number, value) in (0..).zip(general) {
            self.regs.set(Reg::general(number), value);
        }
        self.restore_system(state);
        self.flags = Flags::from_rflags(regs.rflags);
        self.system_flags = regs.rflags & !rflags::ARITHMETIC & 0x3d_7fd7 | rflags::FIXED;
        let mut words = [0; 128];
        words.copy_from_slice(&state.xsave.0[..128]);
        self.fx.set_words(words);
        self.flush_all();
        self.enter_space();
        self.refresh();
        self.set_rip(regs.rip);
    }

    /// Replaces everything there is to know. What lies in RAM may be another's now: a kernel that was loaded
    /// anew for a reset is seen by nobody here.
    pub(crate) fn restore(&mut self, state: &VcpuState) {
        self.blocks.forget_all();
        self.restore_registers(state);
        let debug = &state.debug;
        self.debug = DebugRegisters { addresses: debug.db, status: debug.dr6, control: debug.dr7 };
        let page = std::array::from_fn(|index| {
            let byte = |at: usize| state.lapic.regs[index * 16 + at] as u8;
            u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
        });
        self.apic.set_page(page);
        self.activity = match state.mp_state.mp_state {
            RUNNABLE => Activity::Running,
            HALTED => Activity::Halted,
            _ => Activity::WaitsForStartup,
        };
        self.shadow = state.events.interrupt.shadow != 0;
        self.nmi_pending = state.events.nmi.pending != 0;
        self.nmi_blocked = state.events.nmi.masked != 0;
        for entry in &state.msrs {
            self.set_msr(entry.index, entry.data);
        }
        self.flush_all();
        self.enter_space();
        self.refresh();
        self.set_rip(state.regs.rip);
    }

    fn restore_system(&mut self, state: &VcpuState) {
        let sregs = &state.sregs;
        let segments = [sregs.es, sregs.cs, sregs.ss, sregs.ds, sregs.fs, sregs.gs];
        self.segments = segments.map(Segment::from);
        (self.task, self.ldt) = (sregs.tr.into(), sregs.ldt.into());
        (self.gdt, self.idt) = (sregs.gdt.into(), sregs.idt.into());
        let control = &mut self.control;
        (control.cr0, control.cr2, control.cr3) = (sregs.cr0, sregs.cr2, sregs.cr3);
        (control.cr4, control.efer) = (sregs.cr4, sregs.efer);
        self.cpl = if sregs.cr0 & super::cr0::PE == 0 { 0 } else { sregs.ss.dpl & 3 };
        self.set_apic_base(sregs.apic_base);
        self.load_pae_pointers(sregs.cr3);
    }
}
