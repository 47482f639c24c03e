//! Debug traps where they are not simply behind an instruction: strings, loads of SS, watched data.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use crate::stage::*;

const HANDLER: u64 = 0x9000;

/// A handler of #DB that says RIP from the code's begin on, RCX and DR6's low bits, clears DR6, and goes on.
fn tell(guest: &Guest) {
    let handler = assemble(64, HANDLER, |code| {
        code.push(rax)?;
        code.mov(eax, dword_ptr(rsp + 8))?;
        code.sub(eax, CODE as i32)?;
        say(code)?;
        code.mov(eax, ecx)?;
        say(code)?;
        code.mov(rax, dr6)?;
        code.and(eax, 0xe00f)?;
        say(code)?;
        code.mov(eax, 0xffff_0ff0u32)?;
        code.mov(dr6, rax)?;
        code.pop(rax)?;
        code.iretq()
    });
    guest.put(HANDLER, &handler);
    guest.gate(1, HANDLER, 0);
}

/// Runs code and gathers the traps: RIP, RCX, DR6 of each. The second value is where the code's marks are.
fn traps(
    write: impl FnOnce(&mut CodeAssembler, &mut Vec<usize>) -> Result<(), IcedError>,
) -> (Vec<[u32; 3]>, Vec<u32>) {
    let mut code = CodeAssembler::new(64).unwrap();
    let mut marks = Vec::new();
    write(&mut code, &mut marks).unwrap();
    done(&mut code).unwrap();
    // Where the marked instructions begin: the lengths of those before, assembled alone.
    let instructions = code.take_instructions();
    let options = iced_x86::BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let block = iced_x86::InstructionBlock::new(&instructions, CODE);
    let encoded = iced_x86::BlockEncoder::encode(64, block, options).unwrap();
    let offsets = marks.iter().map(|mark| encoded.new_instruction_offsets[*mark]).collect();
    let mut guest = Guest::long(&encoded.code_buffer);
    tell(&guest);
    guest.put_word(0x10_0000, u64::from(DATA));
    let (words, end) = guest.words();
    assert_eq!(end, End::Done);
    (words.chunks_exact(3).map(|trap| [trap[0], trap[1], trap[2]]).collect(), offsets)
}

const STEP: u32 = 0x4000;

fn step(code: &mut CodeAssembler, on: bool) -> Result<(), IcedError> {
    code.pushfq()?;
    if on {
        code.or(dword_ptr(rsp), 0x100)?
    } else {
        code.and(dword_ptr(rsp), !0x100)?
    }
    code.popfq()
}

fn mark(code: &CodeAssembler, marks: &mut Vec<usize>) {
    marks.push(code.instructions().len());
}

#[test]
fn single_step_stops_behind_each_iteration() {
    let (seen, at) = traps(|code, marks| {
        code.mov(edi, 0x10_1000u32)?;
        code.mov(ecx, 3u32)?;
        step(code, true)?;
        mark(code, marks);
        code.rep().stosb()?;
        mark(code, marks);
        step(code, false)
    });
    let [rep, behind] = at[..] else { panic!() };
    assert_eq!(seen[..3], [[rep, 2, STEP], [rep, 1, STEP], [behind, 0, STEP]]);
}

#[test]
fn single_step_is_held_behind_a_load_of_ss_but_not_behind_sti() {
    let (seen, at) = traps(|code, marks| {
        code.mov(ebx, i32::from(DATA))?;
        step(code, true)?;
        code.mov(ss, ebx)?;
        code.nop()?;
        mark(code, marks);
        code.sti()?;
        mark(code, marks);
        code.cli()?;
        step(code, false)
    });
    let [behind_nop, behind_sti] = at[..] else { panic!() };
    let first: Vec<u32> = seen.iter().take(2).map(|trap| trap[0]).collect();
    assert_eq!(first, [behind_nop, behind_sti]);
}

/// Watches four bytes at 0x100000, for writes (1) or any access (3).
fn watch(code: &mut CodeAssembler, kind: u32) -> Result<(), IcedError> {
    code.mov(eax, 0x10_0000u32)?;
    code.mov(dr0, rax)?;
    code.mov(eax, 2 | kind << 16 | 3 << 18)?;
    code.mov(dr7, rax)
}

#[test]
fn a_data_breakpoint_stops_a_string_behind_the_iteration() {
    let (seen, at) = traps(|code, marks| {
        watch(code, 1)?;
        code.mov(edi, 0x0f_fffeu32)?;
        code.mov(ecx, 8u32)?;
        mark(code, marks);
        code.rep().stosb()?;
        mark(code, marks);
        code.nop()
    });
    let [rep, _] = at[..] else { panic!() };
    // Bytes 3 to 6 of 8 are watched.
    assert_eq!(seen, [[rep, 5, 1], [rep, 4, 1], [rep, 3, 1], [rep, 2, 1]]);
}

#[test]
fn a_data_breakpoint_met_by_a_load_of_ss_waits_for_the_next_instruction() {
    let (seen, at) = traps(|code, marks| {
        watch(code, 3)?;
        code.mov(ss, word_ptr(0x10_0000))?;
        code.nop()?;
        mark(code, marks);
        code.nop()
    });
    assert_eq!(seen, [[at[0], 0, 1]]);
}

#[test]
fn a_watched_read_traps_and_a_watched_write_elsewhere_does_not() {
    let (seen, at) = traps(|code, marks| {
        watch(code, 3)?;
        code.mov(dword_ptr(0x10_0004), eax)?;
        code.mov(ebx, dword_ptr(0x0f_fffd))?; // its last byte is watched
        mark(code, marks);
        code.nop()
    });
    assert_eq!(seen, [[at[0], 0, 1]]);
}
