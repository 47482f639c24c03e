//! A machine of 4 MiB with one vCPU, and the ways to put it in a mode.

use std::sync::Arc;

use bulkhead_hypervisor::x86_64::kvm_segment;
use bulkhead_hypervisor::{Exit, Hypervisor, Vcpu, Vm};
use bulkhead_memory::{Grant, GuestMemory, GuestRange, RamLayout, Rights};
use bulkhead_soft_cpu::Soft;
use iced_x86::IcedError;
use iced_x86::code_asm::CodeAssembler;

/// Where code is put, and where its stack begins.
pub const CODE: u64 = 0x8000;
pub const STACK: u64 = 0x7000;
/// Tables of the modes with paging and interrupts.
pub const TABLES: u64 = 0x1000;
pub const IDT: u64 = 0x5000;
pub const GDT: u64 = 0x6000;
/// Selectors in the table at [`GDT`].
pub const CODE64: u16 = 8;
pub const DATA: u16 = 16;
pub const CODE32: u16 = 24;
pub const USER_DATA: u16 = 32 | 3;
pub const USER_CODE64: u16 = 40 | 3;
pub const TASK: u16 = 48;
/// The task state segment, and the stack that it names for level 0.
pub const TSS: u64 = 0x6800;
pub const KERNEL_STACK: u64 = 0x6700;

pub struct Guest {
    pub vm: Arc<dyn Vm>,
    pub memory: GuestMemory,
    pub vcpu: Box<dyn Vcpu>,
}

/// How a guest ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It wrote to port 0x81.
    Done,
    /// Triple fault.
    Shutdown,
}

pub fn assemble(
    bits: u32,
    at: u64,
    write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Vec<u8> {
    let mut code = CodeAssembler::new(bits).unwrap();
    write(&mut code).unwrap();
    code.assemble(at).unwrap()
}

/// `out 0x80, eax`.
pub fn say(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.out(0x80u32, iced_x86::code_asm::eax)
}

/// `out 0x81, al`.
pub fn done(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.out(0x81u32, iced_x86::code_asm::al)
}

impl Guest {
    /// In real mode, as at power-on but at [`CODE`].
    pub fn real(code: &[u8]) -> Self {
        Self::real_with(code, |_| {})
    }

    fn real_with(code: &[u8], prepare: impl FnOnce(&GuestMemory)) -> Self {
        let layout = RamLayout::new(4 << 20).unwrap();
        let memfd = bulkhead_sys::memfd::create_sealed("ram", layout.total()).unwrap();
        let memory = Grant::whole(&layout, Rights::ReadWrite).map(&memfd).unwrap();
        prepare(&memory);
        let vm = Soft.create_vm(&memory).unwrap();
        let vcpu = vm.create_vcpu(0, 2).unwrap();
        let mut guest = Self { vm, memory, vcpu };
        guest.put(CODE, code);
        let mut state = guest.vcpu.state().unwrap();
        (state.sregs.cs.base, state.sregs.cs.selector) = (0, 0);
        (state.regs.rip, state.regs.rsp, state.regs.rflags) = (CODE, STACK, 2);
        guest.vcpu.set_state(&state).unwrap();
        guest
    }

    /// In 64-bit mode at level 0, the first 4 MiB mapped to themselves in small pages that everyone may
    /// use; the descriptor and interrupt tables are there, the latter empty.
    pub fn long(code: &[u8]) -> Self {
        Self::long_with(code, |_| {})
    }

    /// The same, with something done to its memory before the machine is made.
    pub fn long_with(code: &[u8], prepare: impl FnOnce(&GuestMemory)) -> Self {
        let mut guest = Self::real_with(code, prepare);
        // 4-level tables: one of each of the upper three, two of the last.
        guest.put_word(TABLES, (TABLES + 0x1000) | 7);
        guest.put_word(TABLES + 0x1000, (TABLES + 0x2000) | 7);
        guest.put_word(TABLES + 0x2000, 0x20_0007);
        guest.put_word(TABLES + 0x2008, 0x20_1007);
        for page in 0..1024u64 {
            guest.put_word(0x20_0000 + 8 * page, (page << 12) | 7);
        }
        let descriptors: [u64; 8] = [
            0,
            0x00af_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x00cf_9b00_0000_ffff,
            0x00cf_f300_0000_ffff,
            0x00af_fb00_0000_ffff,
            0x67 | TSS << 16 | 0x8b << 40,
            0,
        ];
        for (index, descriptor) in (0..).zip(descriptors) {
            guest.put_word(GDT + 8 * index, descriptor);
        }
        guest.put_word(TSS + 4, KERNEL_STACK);
        let mut state = guest.vcpu.state().unwrap();
        let sregs = &mut state.sregs;
        (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (0x8001_0011, TABLES, 0x20, 0xd00);
        let flat = |selector, kind, long: bool| kvm_segment {
            selector,
            limit: u32::MAX,
            type_: kind,
            present: 1,
            s: 1,
            g: 1,
            l: long.into(),
            db: (!long).into(),
            ..Default::default()
        };
        sregs.cs = flat(CODE64, 0xb, true);
        let data = flat(DATA, 3, false);
        (sregs.ds, sregs.es, sregs.ss, sregs.fs, sregs.gs) = (data, data, data, data, data);
        sregs.tr = kvm_segment {
            selector: TASK,
            base: TSS,
            limit: 0x67,
            type_: 0xb,
            present: 1,
            ..Default::default()
        };
        (sregs.gdt.base, sregs.gdt.limit) = (GDT, 63);
        (sregs.idt.base, sregs.idt.limit) = (IDT, 0xfff);
        guest.vcpu.set_state(&state).unwrap();
        guest
    }

    pub fn put(&self, address: u64, bytes: &[u8]) {
        let place = GuestRange::new(address, bytes.len() as u64);
        self.memory.check(place).unwrap().copy_out(bytes).unwrap();
    }

    pub fn put_word(&self, address: u64, word: u64) {
        self.put(address, &word.to_le_bytes());
    }

    pub fn word(&self, address: u64) -> u64 {
        let mut bytes = [0; 8];
        self.memory.check(GuestRange::new(address, 8)).unwrap().copy_in(&mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    /// The entry that maps the page at `address` in [`Guest::long`]'s tables.
    pub fn entry_of(address: u64) -> u64 {
        0x20_0000 + (address >> 12) * 8
    }

    /// A gate for `vector`, to 64-bit code at `handler`.
    pub fn gate(&self, vector: u64, handler: u64, dpl: u64) {
        let low = handler & 0xffff | u64::from(CODE64) << 16 | (0x8e | dpl << 5) << 40;
        self.put_word(IDT + 16 * vector, low);
        self.put_word(IDT + 16 * vector + 8, 0);
    }

    /// Runs it to its end; what it said.
    pub fn words(&mut self) -> (Vec<u32>, End) {
        let mut words = Vec::new();
        loop {
            match self.vcpu.run().unwrap() {
                Exit::PioOut { port: 0x80, data, .. } => {
                    let mut word = [0; 4];
                    word[..data.len()].copy_from_slice(data);
                    words.push(u32::from_le_bytes(word));
                }
                Exit::PioOut { port: 0x81, .. } => return (words, End::Done),
                Exit::Shutdown => return (words, End::Shutdown),
                other => panic!("{other:?} after {words:x?}"),
            }
        }
    }
}
