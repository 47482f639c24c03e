//! The interpreter's side: a machine with the same linear addresses, at level 3 in any of the modes.

use bulkhead_memory::{Grant, RamLayout, Rights};
use bulkhead_soft_cpu::Cpu;
use bulkhead_soft_cpu::fault::Stop;
use bulkhead_soft_cpu::memory::Ram;
use bulkhead_soft_cpu::state::{Flags, Fx, Reg, Segment, cr0, cr4, efer, rflags};
use bulkhead_sys::code_memory::CodeMemory;

use crate::layout::{self, Bits, CODE, CODE16, CODE32, DATA, DATA_LEN, READ_ONLY, SEGMENTS_16};
use crate::native::pattern;
use crate::state::{FLAGS, Fault, Outcome, State};

/// Guest-physical addresses.
const TABLES: u64 = 0x1000;
const CODE_PAGE: u64 = 0x10_0000;
const DATA_PAGES: u64 = 0x11_0000;
const READ_ONLY_PAGE: u64 = 0x12_0000;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;

pub struct Guest {
    cpu: Cpu,
    ram: *mut u8,
    bits: Bits,
}

impl Guest {
    /// `compiled`: what it executes is compiled first.
    pub fn new(compiled: bool) -> Self {
        let layout = RamLayout::new(4 << 20).expect("a small RAM");
        let file = bulkhead_sys::memfd::create_sealed("oracle", layout.total()).expect("a memfd");
        let memory = Grant::whole(&layout, Rights::ReadWrite).map(&file).expect("mapped");
        let ram = std::sync::Arc::new(Ram::new(&memory));
        let host = ram.host(0, 4 << 20).expect("RAM from zero");
        let mut cpu = Cpu::alone(ram).expect("a processor");
        if compiled {
            cpu.compile_blocks(CodeMemory::new(8 << 20).expect("code memory"), 0);
        }
        let mut guest = Self { cpu, ram: host, bits: Bits::Bits64 };
        guest.build_tables();
        for at in 0..DATA_LEN {
            guest.poke(DATA_PAGES + at, pattern(at));
        }
        for at in 0..4096 {
            guest.poke(READ_ONLY_PAGE + at, pattern(at));
        }
        guest.enter_user_mode();
        guest
    }

    /// Blocks that were compiled.
    pub fn compiled(&self) -> u64 {
        self.cpu.compiled_blocks()
    }

    fn poke<T>(&mut self, physical: u64, value: T) {
        // SAFETY: all addresses used here are within the 4 MiB.
        unsafe { self.ram.wrapping_add(physical as usize).cast::<T>().write(value) }
    }

    fn build_tables(&mut self) {
        let all = PRESENT | WRITABLE | USER;
        let (directory_pointers, directory) = (TABLES + 0x1000, TABLES + 0x2000);
        self.poke(TABLES, directory_pointers | all);
        self.poke(directory_pointers, directory | all);
        let mut table = TABLES + 0x3000;
        let mut map = |guest: &mut Self, linear: u64, physical: u64, pages: u64, rights: u64| {
            guest.poke(directory + (linear >> 21) * 8, table | all);
            for page in 0..pages {
                let entry = table + ((linear >> 12) % 512 + page) * 8;
                guest.poke(entry, (physical + page * 4096) | rights);
            }
            if !matches!(linear, CODE | CODE32 | DATA) {
                table += 0x1000;
            }
        };
        map(self, CODE, CODE_PAGE, 1, all);
        map(self, CODE32, CODE_PAGE + 4096, 1, all);
        map(self, CODE16, CODE_PAGE + 8192, 1, all);
        map(self, DATA, DATA_PAGES, DATA_LEN / 4096, all);
        map(self, READ_ONLY, READ_ONLY_PAGE, 1, PRESENT | USER);
    }

    fn enter_user_mode(&mut self) {
        let cpu = &mut self.cpu;
        cpu.control.cr0 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::PG;
        cpu.control.cr3 = TABLES;
        cpu.control.cr4 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT;
        cpu.control.efer = efer::SCE | efer::LME | efer::LMA | efer::NXE;
        // No port may be used.
        cpu.task = Segment { limit: 0x66, kind: 0xb, present: true, ..Segment::default() };
        cpu.cpl = 3;
        self.set_bits(Bits::Bits64);
    }

    /// Switches between modes, with the segments that the host has in them.
    pub fn set_bits(&mut self, bits: Bits) {
        let user = Segment { is_user: true, dpl: 3, present: true, kind: 3, ..Segment::default() };
        let flat = Segment { limit: u32::MAX, pages: true, big: true, ..user };
        let data = Segment { selector: 0x2b, ..flat };
        let none = Segment::default();
        self.cpu.segments = match bits {
            Bits::Bits16 => {
                let [code, ds, es, ss] = SEGMENTS_16.map(|segment| Segment {
                    selector: segment.selector,
                    base: segment.base,
                    limit: segment.limit,
                    kind: if segment.is_code { 0xb } else { 3 },
                    ..user
                });
                [es, code, ss, ds, none, none]
            }
            Bits::Bits32 => {
                let code = Segment { selector: 0x23, kind: 0xb, ..flat };
                [data, code, data, data, none, none]
            }
            Bits::Bits64 => {
                let code = Segment { selector: 0x33, kind: 0xb, long: true, big: false, ..flat };
                [data, code, data, data, none, none]
            }
        };
        self.bits = bits;
        self.cpu.refresh();
    }

    /// Puts bytes where the data is.
    pub fn plant(&mut self, at: u64, bytes: &[u8]) {
        for (at, byte) in (at - DATA..).zip(bytes) {
            self.poke(DATA_PAGES + at, *byte);
        }
    }

    /// Writes code, as a guest that modifies its own.
    pub fn place(&mut self, at: u64, bytes: &[u8]) {
        self.cpu.write_code(at, bytes).expect("code can be written");
    }

    pub fn data(&self) -> &[u8] {
        let at = self.ram.wrapping_add(DATA_PAGES as usize);
        // SAFETY: within RAM; the interpreter does not run while the slice is looked at.
        unsafe { std::slice::from_raw_parts(at, DATA_LEN as usize) }
    }

    pub fn set_data(&mut self, data: &[u8]) {
        for (at, byte) in (0..).zip(data) {
            self.poke(DATA_PAGES + at, *byte);
        }
    }

    /// Interprets one instruction of `len` bytes.
    pub fn run_one(&mut self, at: u64, len: usize, before: &State) -> Outcome {
        let at = layout::ip(self.bits, at);
        self.set_registers(at, before);
        let mut stop = self.cpu.execute_one();
        // A repeated instruction comes up for air.
        while stop == Stop::Lookup && self.cpu.rip() == at {
            stop = self.cpu.execute_one();
        }
        self.outcome(at + len as u64, stop)
    }

    /// Interprets blocks until something stops; `len` bytes on, that is the end.
    pub fn run_all(&mut self, at: u64, len: usize, before: &State) -> Outcome {
        let at = layout::ip(self.bits, at);
        self.set_registers(at, before);
        let mut stop = self.cpu.execute_blocks();
        while matches!(stop, Stop::Lookup | Stop::Spin | Stop::Window) {
            stop = self.cpu.execute_blocks();
        }
        let end = at + len as u64;
        let is_end =
            self.cpu.rip() == end && matches!(stop, Stop::Fault(fault) if fault.vector == 6);
        self.outcome(end, if is_end { Stop::Lookup } else { stop })
    }

    fn set_registers(&mut self, at: u64, before: &State) {
        let cpu = &mut self.cpu;
        for (number, value) in (0..).zip(before.registers) {
            cpu.regs.set(Reg::general(number), value);
        }
        cpu.flags = Flags::from_rflags(before.flags);
        cpu.system_flags = before.flags & rflags::DF | rflags::FIXED | rflags::IF;
        cpu.fx = Fx::from_bytes(&before.fx);
        cpu.set_rip(at);
    }

    fn outcome(&mut self, end: u64, stop: Stop) -> Outcome {
        let cpu = &self.cpu;
        let fault = match stop {
            Stop::Lookup | Stop::Spin | Stop::Window => None,
            Stop::Fault(exception) => Some(Fault {
                vector: exception.vector.into(),
                code: exception.code.unwrap_or(0).into(),
                address: exception.address,
            }),
            other => {
                Some(Fault { vector: 1000, code: 0, address: format!("{other:?}").len() as u64 })
            }
        };
        let mut registers = [0; 16];
        for (number, value) in (0..).zip(&mut registers) {
            *value = cpu.regs.get(Reg::general(number));
        }
        let rip = if fault.is_none() && cpu.rip() == end { 0 } else { cpu.rip() };
        let flags = cpu.rflags() & FLAGS;
        let state = State { registers, flags, rip, padding: [0; 6], fx: cpu.fx.to_bytes() };
        Outcome { state, fault }
    }
}
