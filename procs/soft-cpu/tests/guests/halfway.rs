//! Instructions of many accesses that fault in the middle: registers tell how far they came, and they go
//! on from there.

use bulkhead_hypervisor::Exit;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

use crate::flat::Paging;
use crate::stage::*;

const HANDLER: u64 = 0x9000;
/// The page that is missing until the handler brings it.
const MISSING: u64 = 0x10_8000;

/// Runs 64-bit code with page [`MISSING`] away. The page fault's handler says RCX, RSI, RDI and the
/// arithmetic flags, brings the page and goes back.
fn run(
    bytes: &[(u64, &[u8])],
    write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> (Vec<u32>, Guest) {
    let code = assemble(64, CODE, |code| {
        write(code)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    for (address, bytes) in bytes {
        guest.put(*address, bytes);
    }
    guest.put_word(Guest::entry_of(MISSING), 0);
    let handler = assemble(64, HANDLER, |code| {
        code.push(rax)?;
        for register in [ecx, esi, edi] {
            code.mov(eax, register)?;
            say(code)?;
        }
        code.mov(eax, dword_ptr(rsp + 32))?; // RFLAGS in the frame
        code.and(eax, 0x8d5)?;
        say(code)?;
        code.mov(dword_ptr(Guest::entry_of(MISSING)), (MISSING | 7) as i32)?;
        code.pop(rax)?;
        code.add(rsp, 8)?;
        code.iretq()
    });
    guest.put(HANDLER, &handler);
    guest.gate(14, HANDLER, 0);
    let (words, end) = guest.words();
    assert_eq!(end, End::Done);
    (words, guest)
}

#[test]
fn a_copy_downwards_faults_at_its_element() {
    let (words, guest) = run(&[(0x10_9000, b"abcdefgh"), (0x10_8ffc, b"wxyz")], |code| {
        code.std()?;
        code.mov(esi, 0x10_9004u32)?;
        code.mov(edi, 0x10_1010u32)?;
        code.mov(ecx, 3u32)?;
        code.rep().movsd()
    });
    // The elements at 9004 and 9000 are there, the one at 8ffc is not.
    assert_eq!(words[..3], [1, 0x10_8ffc, 0x10_1008]);
    assert_eq!(guest.word(0x10_1010) as u32, u32::from_le_bytes(*b"efgh"));
    assert_eq!(guest.word(0x10_1008), u64::from_le_bytes(*b"wxyzabcd"));
}

#[test]
fn a_source_and_a_target_may_both_be_missing_in_the_middle_of_an_element() {
    let (words, guest) = run(&[(0x10_7ffe, &[1, 2]), (0x10_8000, &[3, 4])], |code| {
        code.mov(esi, 0x10_7ffeu32)?;
        code.mov(edi, 0x10_7ffau32)?;
        code.mov(ecx, 1u32)?;
        code.rep().movsd()
    });
    // The element crosses into the missing page; nothing of it is done.
    assert_eq!(words[..3], [1, 0x10_7ffe, 0x10_7ffa]);
    assert_eq!(guest.word(0x10_7ff8) >> 16 & 0xffff_ffff, 0x0403_0201);
}

#[test]
fn a_comparison_that_faults_leaves_the_flags_as_they_were() {
    let same = [7u8; 16];
    let (words, _) = run(&[(0x10_7ff8, &same), (0x10_1000, &same)], |code| {
        code.xor(eax, eax)?;
        code.inc(eax)?;
        code.stc()?; // CF alone
        code.mov(esi, 0x10_7ff8u32)?;
        code.mov(edi, 0x10_1000u32)?;
        code.mov(ecx, 16u32)?;
        code.repe().cmpsb()?;
        code.pushfq()?;
        code.pop(rax)?;
        code.and(eax, 0x8d5)?;
        say(code)?;
        code.mov(eax, ecx)?;
        say(code)
    });
    assert_eq!(words[..4], [8, 0x10_8000, 0x10_1008, 1]);
    assert_eq!(words[4..], [0x44, 0], "equal to the end");
}

#[test]
fn a_search_that_faults_goes_on_and_finds() {
    let (words, _) = run(&[(0x10_8002, &[9])], |code| {
        code.mov(edi, 0x10_7ffcu32)?;
        code.mov(eax, 9u32)?;
        code.mov(ecx, 100u32)?;
        code.repne().scasb()?;
        code.mov(eax, edi)?;
        say(code)?;
        code.mov(eax, ecx)?;
        say(code)
    });
    assert_eq!((words[0], words[2]), (96, 0x10_8000));
    assert_eq!(words[4..], [0x10_8003, 93]);
}

#[test]
fn a_port_is_not_read_for_a_missing_target() {
    let code = assemble(64, CODE, |code| {
        code.mov(edi, 0x10_7ffeu32)?;
        code.mov(edx, 0x60u32)?;
        code.mov(ecx, 3u32)?;
        code.rep().insb()?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    guest.put_word(Guest::entry_of(MISSING), 0);
    let handler = assemble(64, HANDLER, |code| {
        code.mov(eax, ecx)?;
        say(code)?;
        code.mov(dword_ptr(Guest::entry_of(MISSING)), (MISSING | 7) as i32)?;
        code.add(rsp, 8)?;
        code.iretq()
    });
    guest.put(HANDLER, &handler);
    guest.gate(14, HANDLER, 0);
    let mut events = Vec::new();
    loop {
        match guest.vcpu.run().unwrap() {
            Exit::PioIn { port: 0x60, data, .. } => {
                data[0] = 0x40 + events.len() as u8;
                events.push("read");
            }
            Exit::PioOut { port: 0x80, data, .. } => {
                assert_eq!(data[0], 1, "iterations left");
                events.push("fault");
            }
            Exit::PioOut { port: 0x81, .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(events, ["read", "read", "fault", "read"]);
    assert_eq!(guest.word(0x10_7ff8) >> 48, 0x4140);
    assert_eq!(guest.word(MISSING) & 0xff, 0x43);
}

#[test]
fn pushes_and_pops_of_many_registers_are_all_or_nothing() {
    let code = assemble(32, CODE, |code| {
        code.mov(eax, 1u32)?;
        code.mov(esp, 0x10_8010u32)?;
        code.pushad()?; // eight words, of which four fit
        done(code)
    });
    let mut guest = Guest::flat(&code, Paging::Legacy);
    // The page below is the kernel's no more.
    guest.put(0x2000 + (0x10_7000 >> 12) * 4, &0u32.to_le_bytes());
    let handler = assemble(32, HANDLER, |code| {
        code.mov(eax, dword_ptr(0x10_800cu32))?;
        say(code)?;
        done(code)
    });
    guest.put(HANDLER, &handler);
    guest.flat_gate(14, HANDLER, 0);
    let (words, end) = guest.words();
    // The frame begins where ESP still is: EFLAGS (with RF), where the first register went.
    assert_eq!((words.len(), end), (1, End::Done));
    assert_eq!(words[0] & 0x1_0002, 0x1_0002, "{words:x?}");
}

#[test]
fn frames_are_made_and_left_with_their_displays() {
    let code = assemble(32, CODE, |code| {
        code.mov(ebp, 0x10_2000u32)?;
        code.mov(dword_ptr(0x10_1ffcu32), 0x11)?;
        code.mov(dword_ptr(0x10_1ff8u32), 0x22)?;
        code.mov(esp, 0x10_1000u32)?;
        code.enter(0x10, 3)?;
        code.mov(eax, esp)?;
        say(code)?;
        code.mov(eax, ebp)?;
        say(code)?;
        code.leave()?;
        code.mov(eax, esp)?;
        say(code)?;
        code.mov(eax, ebp)?;
        say(code)?;
        done(code)
    });
    let mut guest = Guest::flat(&code, Paging::Off);
    let expected = vec![0x10_0fe0, 0x10_0ffc, 0x10_1000, 0x10_2000];
    assert_eq!(guest.words(), (expected, End::Done));
    assert_eq!(guest.word(0x10_0ff8), 0x0010_2000_0000_0011, "frame pointer, first display");
    assert_eq!(guest.word(0x10_0ff0), 0x0000_0022_0010_0ffc, "second display, this frame");
}

#[test]
fn a_frame_that_cannot_be_made_changes_nothing() {
    let (words, _) = run(&[], |code| {
        // The first push is done when the display's first word is looked for, in the missing page.
        code.mov(ebp, 0x10_9004u32)?;
        code.mov(esp, 0x7000u32)?;
        code.enter(8, 3)?;
        code.mov(eax, esp)?;
        say(code)?;
        code.mov(eax, ebp)?;
        say(code)
    });
    assert_eq!(words[4..], [0x7000 - 8 * 4 - 8, 0x7000 - 8]);
}

#[test]
fn a_16_bit_stack_wraps_within_its_segment() {
    let code = assemble(16, CODE, |code| {
        code.mov(ax, 0x1000u32)?;
        code.mov(ss, ax)?;
        code.mov(sp, 0u32)?;
        code.push(0x1234u32 as i32)?;
        code.mov(eax, 0u32)?;
        code.mov(ax, sp)?;
        say(code)?;
        code.pop(ax)?;
        say(code)?;
        done(code)
    });
    let mut guest = Guest::real(&code);
    assert_eq!(guest.words(), (vec![0xfffe, 0x1234], End::Done));
    assert_eq!(guest.word(0x1_fff8) >> 48, 0x1234);
}
