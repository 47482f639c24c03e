//! A machine in 32-bit protected mode with flat segments of both levels, without paging or with either
//! of its forms; and what those forms permit.

use bulkhead_hypervisor::x86_64::kvm_segment;
use iced_x86::code_asm::*;

use crate::stage::*;

/// Selectors in this machine's table.
pub const KERNEL_CODE: u16 = 8;
pub const KERNEL_DATA: u16 = 0x10;
pub const FLAT_USER_CODE: u16 = 0x18 | 3;
pub const FLAT_USER_DATA: u16 = 0x20 | 3;
pub const FLAT_TASK: u16 = 0x28;
pub const CONFORMING: u16 = 0x30;
/// For whatever a test puts there.
pub const SPARE: u16 = 0x38;

/// What linear addresses go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paging {
    Off,
    Legacy,
    Pae,
}

impl Paging {
    /// The entry of the tables' last level.
    fn entry_of(self, address: u64) -> u64 {
        match self {
            Self::Pae => 0x3000 + (address >> 12) * 8,
            _ => 0x2000 + (address >> 12) * 4,
        }
    }
}

impl Guest {
    /// Level 0, code at [`CODE`], tables of interrupts, segments and pages as in [`Guest::long`].
    pub fn flat(code: &[u8], paging: Paging) -> Self {
        let mut guest = Self::real(code);
        match paging {
            Paging::Off => {}
            Paging::Legacy => {
                guest.put(TABLES, &0x2007u32.to_le_bytes());
                for page in 0..1024u32 {
                    guest.put(0x2000 + 4 * u64::from(page), &(page << 12 | 7).to_le_bytes());
                }
            }
            Paging::Pae => {
                guest.put_word(TABLES, 0x2001);
                guest.put_word(0x2000, 0x3007);
                guest.put_word(0x2008, 0x4007);
                for page in 0..1024u64 {
                    guest.put_word(0x3000 + 8 * page, page << 12 | 7);
                }
            }
        }
        let descriptors: [u64; 7] = [
            0,
            0x00cf_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x00cf_fb00_0000_ffff,
            0x00cf_f300_0000_ffff,
            0x67 | TSS << 16 | 0x8b << 40,
            0x00cf_9f00_0000_ffff,
        ];
        for (index, descriptor) in (0..).zip(descriptors) {
            guest.put_word(GDT + 8 * index, descriptor);
        }
        guest.put_word(TSS + 4, KERNEL_STACK | u64::from(KERNEL_DATA) << 32);
        let mut state = guest.vcpu.state().unwrap();
        let sregs = &mut state.sregs;
        sregs.cr3 = TABLES;
        (sregs.cr0, sregs.cr4) = match paging {
            Paging::Off => (0x11, 0),
            Paging::Legacy => (0x8001_0011, 0x10),
            Paging::Pae => (0x8001_0011, 0x30),
        };
        sregs.efer = if paging == Paging::Pae { 0x800 } else { 0 };
        let flat = |selector, kind| kvm_segment {
            selector,
            limit: u32::MAX,
            type_: kind,
            present: 1,
            s: 1,
            g: 1,
            db: 1,
            ..Default::default()
        };
        sregs.cs = flat(KERNEL_CODE, 0xb);
        let data = flat(KERNEL_DATA, 3);
        (sregs.ds, sregs.es, sregs.ss, sregs.fs, sregs.gs) = (data, data, data, data, data);
        sregs.tr = kvm_segment {
            selector: FLAT_TASK,
            base: TSS,
            limit: 0x67,
            type_: 0xb,
            present: 1,
            ..Default::default()
        };
        (sregs.gdt.base, sregs.gdt.limit) = (GDT, 0x7f);
        (sregs.idt.base, sregs.idt.limit) = (IDT, 0x7ff);
        guest.vcpu.set_state(&state).unwrap();
        guest
    }

    /// An interrupt gate of 32 bits to `handler`.
    pub fn flat_gate(&self, vector: u64, handler: u64, dpl: u64) {
        let selector = u64::from(KERNEL_CODE) << 16;
        self.put_word(IDT + 8 * vector, handler & 0xffff | selector | (0x8e | dpl << 5) << 40);
    }

    /// For `vector`: says so many words of the frame and CR2, and is done.
    pub fn flat_teller(&self, vector: u64, words: usize) {
        let handler = 0x9000 + vector * 0x40;
        let code = assemble(32, handler, |code| {
            for _ in 0..words {
                code.pop(eax)?;
                say(code)?;
            }
            code.mov(eax, cr2)?;
            say(code)?;
            done(code)
        });
        self.put(handler, &code);
        self.flat_gate(vector, handler, 0);
    }
}

const PAGE: u64 = 0x10_0000;

/// Error code and address of the page fault that `code` ends with, if it does.
fn fault_of(paging: Paging, entry: u64, code: &[u8]) -> Option<(u32, u32)> {
    let mut guest = Guest::flat(code, paging);
    match paging {
        Paging::Pae => guest.put_word(paging.entry_of(PAGE), entry),
        _ => guest.put(paging.entry_of(PAGE), &(entry as u32).to_le_bytes()),
    }
    guest.flat_teller(14, 1);
    match &guest.words().0[..] {
        [] => None,
        [code, address] => Some((*code, *address)),
        other => panic!("{other:x?}"),
    }
}

#[test]
fn pages_of_32_bit_tables_permit_what_their_entries_say() {
    let read = assemble(32, CODE, |code| {
        code.mov(eax, dword_ptr(PAGE as u32))?;
        done(code)
    });
    let write = assemble(32, CODE, |code| {
        code.mov(dword_ptr(PAGE as u32), eax)?;
        done(code)
    });
    let at = PAGE as u32;
    for paging in [Paging::Legacy, Paging::Pae] {
        assert_eq!(fault_of(paging, PAGE | 3, &read), None, "{paging:?}");
        assert_eq!(fault_of(paging, PAGE | 2, &read), Some((0, at)), "{paging:?} not present");
        assert_eq!(fault_of(paging, PAGE | 2, &write), Some((2, at)), "{paging:?} not present");
        assert_eq!(fault_of(paging, PAGE | 1, &write), Some((3, at)), "{paging:?} CR0.WP");
    }
    let jump = assemble(32, CODE, |code| {
        code.mov(eax, PAGE as u32)?;
        code.call(eax)?;
        done(code)
    });
    let no_execute = 1 << 63 | PAGE | 3;
    assert_eq!(fault_of(Paging::Pae, no_execute, &jump), Some((17, at)));
    assert_eq!(fault_of(Paging::Pae, no_execute, &read), None);
    assert_eq!(fault_of(Paging::Pae, 1 << 50 | PAGE | 3, &read), Some((9, at)));
    assert_eq!(fault_of(Paging::Pae, 1 << 55 | PAGE | 3, &read), Some((9, at)));
}

#[test]
fn large_pages_of_32_bit_tables_are_found() {
    let code = assemble(32, CODE, |code| {
        code.mov(eax, dword_ptr(0x0050_0000u32))?;
        say(code)?;
        code.mov(dword_ptr(0x0050_0004u32), 0x77)?;
        done(code)
    });
    for paging in [Paging::Legacy, Paging::Pae] {
        let mut guest = Guest::flat(&code, paging);
        // The second 4 MiB show the first.
        match paging {
            Paging::Legacy => guest.put(TABLES + 4, &0x83u32.to_le_bytes()),
            _ => guest.put_word(0x2000 + 2 * 8, 0x83),
        }
        guest.put_word(0x10_0000, 0x1234);
        assert_eq!(guest.words(), (vec![0x1234], End::Done), "{paging:?}");
        assert_eq!(guest.word(0x10_0000), 0x77_0000_1234, "{paging:?}");
        let entry = if paging == Paging::Pae { 0x2010 } else { TABLES + 4 };
        assert_eq!(guest.word(entry) & 0x60, 0x60, "accessed and dirty");
    }
}

#[test]
fn a_reserved_bit_of_a_4_mib_page_is_a_fault() {
    let code = assemble(32, CODE, |code| {
        code.mov(eax, dword_ptr(0x0050_0000u32))?;
        done(code)
    });
    let mut guest = Guest::flat(&code, Paging::Legacy);
    guest.put(TABLES + 4, &0x20_0083u32.to_le_bytes());
    guest.flat_teller(14, 1);
    assert_eq!(guest.words(), (vec![9, 0x50_0000], End::Done));
}

#[test]
fn pae_pointers_are_read_when_cr3_is_written() {
    let code = assemble(32, CODE, |code| {
        code.mov(dword_ptr(TABLES as u32), 0)?; // the pointer in use, in memory
        code.invlpg(byte_ptr(PAGE as u32))?;
        code.mov(eax, dword_ptr(PAGE as u32))?;
        say(code)?;
        code.mov(dword_ptr(TABLES as u32), 0x2001 | 1 << 5)?; // reserved
        code.mov(eax, cr3)?;
        code.mov(cr3, eax)?;
        done(code)
    });
    let mut guest = Guest::flat(&code, Paging::Pae);
    guest.put_word(PAGE, 0x55);
    guest.flat_teller(13, 1);
    assert_eq!(guest.words(), (vec![0x55, 0, 0], End::Done));
}
