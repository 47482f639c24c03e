//! What this processor does not have fails the guest as a processor without it would.

use iced_x86::code_asm::*;

use crate::flat::*;
use crate::stage::*;

/// 32-bit code at level 0 ends with this exception and error code.
fn fault_of(vector: u64, code: &[u8], prepare: impl FnOnce(&Guest)) -> Vec<u32> {
    let mut guest = Guest::flat(code, Paging::Off);
    guest.flat_teller(vector, 1);
    prepare(&guest);
    guest.words().0
}

#[test]
fn tasks_are_not_switched_by_hardware() {
    let available = 0x67 | TSS << 16 | 0x89 << 40;
    let jump = [0xea, 0, 0, 0, 0, SPARE as u8, 0];
    let spare = GDT + u64::from(SPARE);
    assert_eq!(fault_of(13, &jump, |guest| guest.put_word(spare, available))[0], u32::from(SPARE));
    let gate = u64::from(FLAT_TASK) << 16 | 0x85 << 40;
    assert_eq!(fault_of(13, &jump, |guest| guest.put_word(spare, gate))[0], u32::from(SPARE));
    let by_interrupt = fault_of(13, &[0xcd, 0x40], |guest| guest.put_word(IDT + 8 * 0x40, gate));
    assert_eq!(by_interrupt[0], 0x40 * 8 + 2);
    // iret with NT: back to another task.
    let nested = assemble(32, CODE, |code| {
        code.push(0x4002)?;
        code.popfd()?;
        code.iretd()
    });
    assert_eq!(fault_of(13, &nested, |_| {})[0], 0);
}

#[test]
fn call_gates_are_refused() {
    let call = [0x9a, 0, 0, 0, 0, SPARE as u8, 0];
    let gate = 0xb000 | u64::from(KERNEL_CODE) << 16 | 0x8c << 40;
    let code = fault_of(13, &call, |guest| guest.put_word(GDT + u64::from(SPARE), gate));
    assert_eq!(code[0], u32::from(SPARE));
}

#[test]
fn virtual_8086_mode_is_not_entered() {
    let code = assemble(32, CODE, |code| {
        for word in [0, 0, 0, 0, 0, 0x7000, 0x2_0002, 0, 0x100] {
            code.push(word)?;
        }
        code.iretd()
    });
    assert_eq!(fault_of(13, &code, |_| {})[0], 0);
    // And CPUID does not promise its extensions.
    let code = assemble(32, CODE, |code| {
        code.mov(eax, 1u32)?;
        code.cpuid()?;
        code.mov(eax, edx)?;
        code.and(eax, 2)?;
        say(code)?;
        done(code)
    });
    assert_eq!(Guest::flat(&code, Paging::Off).words(), (vec![0], End::Done));
}

#[test]
fn instruction_sets_that_are_not_announced_are_invalid_opcodes() {
    let absent: [(&str, &[u8]); 9] = [
        ("xsave", &[0x0f, 0xae, 0x20]),
        ("xrstor", &[0x0f, 0xae, 0x28]),
        ("xgetbv", &[0x0f, 0x01, 0xd0]),
        ("vaddps", &[0xc5, 0xf8, 0x58, 0xc1]),
        ("vpaddd zmm", &[0x62, 0xf1, 0x7d, 0x48, 0xfe, 0xc1]),
        ("andn", &[0xc4, 0xe2, 0x78, 0xf2, 0xc1]),
        ("vmxon", &[0xf3, 0x0f, 0xc7, 0x30]),
        ("vmrun", &[0x0f, 0x01, 0xd8]),
        ("rdrand", &[0x0f, 0xc7, 0xf0]),
    ];
    for (name, bytes) in absent {
        let mut guest = Guest::long(bytes);
        let handler = assemble(64, 0x9000, |code| {
            code.pop(rax)?;
            say(code)?;
            done(code)
        });
        guest.put(0x9000, &handler);
        guest.gate(6, 0x9000, 0);
        assert_eq!(guest.words(), (vec![CODE as u32], End::Done), "{name}");
    }
}
