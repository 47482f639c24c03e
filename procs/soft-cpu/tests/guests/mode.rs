//! From real mode to 64-bit mode and back to 32 bits, as kernels and their trampolines do it.

use iced_x86::code_asm::*;

use crate::stage::*;

/// Real → protected → 64-bit → compatibility mode, speaking in each.
#[test]
fn a_guest_climbs_from_real_to_long_mode() {
    let (in32, in64, compat) = (0x9000u64, 0xa000u64, 0xb000u64);
    let mut guest = Guest::long(&[]);
    guest.put_word(0x500, GDT << 16 | 63);
    let first = assemble(16, CODE, |code| {
        code.mov(eax, 0x16u32)?;
        say(code)?;
        code.db(&[0x66, 0x0f, 0x01, 0x16, 0x00, 0x05])?; // lgdt [0x500], with a 32-bit base
        code.mov(eax, cr0)?;
        code.or(eax, 1)?;
        code.mov(cr0, eax)?;
        // jmp far 24:0x9000
        code.db(&[0x66, 0xea, 0x00, 0x90, 0x00, 0x00, 0x18, 0x00])
    });
    let second = assemble(32, in32, |code| {
        code.mov(eax, 16)?;
        code.mov(ds, eax)?;
        code.mov(ss, eax)?;
        code.mov(esp, STACK as u32)?;
        code.mov(eax, 0x32u32)?;
        say(code)?;
        code.mov(eax, cr4)?;
        code.or(eax, 0x20)?;
        code.mov(cr4, eax)?;
        code.mov(eax, TABLES as u32)?;
        code.mov(cr3, eax)?;
        code.mov(ecx, 0xc000_0080u32)?;
        code.rdmsr()?;
        code.or(eax, 0x100)?;
        code.wrmsr()?;
        code.mov(eax, cr0)?;
        code.or(eax, 0x8000_0000u32 as i32)?;
        code.mov(cr0, eax)?;
        // jmp far 8:0xa000
        code.db(&[0xea, 0x00, 0xa0, 0x00, 0x00, 0x08, 0x00])
    });
    let third = assemble(64, in64, |code| {
        code.mov(rax, 0x1_0000_0064u64)?;
        code.shr(rax, 4)?;
        say(code)?;
        code.push(CODE32 as i32)?;
        code.push(compat as i32)?;
        code.db(&[0x48, 0xcb]) // retfq
    });
    let fourth = assemble(32, compat, |code| {
        // In 64-bit code this would be a prefix: here it is inc eax.
        code.mov(eax, 0x31u32)?;
        code.db(&[0x40])?;
        say(code)?;
        done(code)
    });
    for (address, bytes) in [(CODE, first), (in32, second), (in64, third), (compat, fourth)] {
        guest.put(address, &bytes);
    }
    let real = Guest::real(&[]).vcpu.state().unwrap();
    guest.vcpu.set_state(&real).unwrap();
    assert_eq!(guest.words(), (vec![0x16, 0x32, 0x1000_0006, 0x32], End::Done));
}

#[test]
fn real_mode_addresses_wrap_at_their_segment() {
    // mov ax, 0x1000; mov ds, ax; mov byte [0xffff], 0x5a; mov ax, [0xfffe] (crosses nothing);
    // mov ax, [0xffff] would cross the limit: #GP, whose handler says 13.
    let code = assemble(16, CODE, |code| {
        code.mov(ax, 0x1000u32)?;
        code.mov(ds, ax)?;
        code.mov(byte_ptr(0xffff), 0x5au32)?;
        code.mov(eax, 0u32)?;
        code.mov(al, byte_ptr(0xffff))?;
        say(code)?;
        code.mov(ax, word_ptr(0xffff))?;
        say(code)
    });
    let mut guest = Guest::real(&code);
    let handler = assemble(16, 0x9000, |code| {
        code.mov(eax, 13u32)?;
        say(code)?;
        done(code)
    });
    guest.put(0x9000, &handler);
    guest.put(13 * 4, &[0x00, 0x90, 0, 0]);
    assert_eq!(guest.words(), (vec![0x5a, 13], End::Done));
    assert_eq!(guest.word(0x1_fff8) >> 56, 0x5a);
}
