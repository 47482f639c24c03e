//! An initramfs of one program, assembled here.

use iced_x86::code_asm::*;

#[path = "vectors.rs"]
mod vectors;

/// Where the program is linked.
const ADDRESS: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;

/// A program that computes, writes `greeting` to its standard output and switches the machine off.
fn program(greeting: &str) -> Vec<u8> {
    const WRITE: u32 = 1;
    const REBOOT: u32 = 169;
    let mut code = CodeAssembler::new(64).unwrap();
    let mut text = code.create_label();
    vectors::compute(&mut code).unwrap();
    code.mov(eax, WRITE).unwrap();
    code.mov(edi, 1u32).unwrap();
    code.lea(rsi, ptr(text)).unwrap();
    code.mov(edx, greeting.len() as u32).unwrap();
    code.syscall().unwrap();
    code.mov(eax, REBOOT).unwrap();
    code.mov(edi, 0xfee1_deadu32).unwrap();
    code.mov(esi, 0x2812_1969u32).unwrap();
    code.mov(edx, 0x4321_fedcu32).unwrap();
    code.syscall().unwrap();
    code.ud2().unwrap();
    code.set_label(&mut text).unwrap();
    code.db(greeting.as_bytes()).unwrap();
    code.assemble(ADDRESS + HEADERS).unwrap()
}

/// The program as an ELF file with one segment, headers and all.
fn executable(greeting: &str) -> Vec<u8> {
    let code = program(greeting);
    let len = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2u16, 62].map(u16::to_le_bytes).concat());
    file.extend(1u32.to_le_bytes());
    file.extend([ADDRESS + HEADERS, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
    file.extend([1u32, 5].map(u32::to_le_bytes).concat());
    file.extend([0, ADDRESS, ADDRESS, len, len, 4096].map(u64::to_le_bytes).concat());
    file.extend(code);
    file
}

/// A cpio archive (newc) with that program as `/init`.
pub fn of_init(greeting: &str) -> Vec<u8> {
    let mut archive = Vec::new();
    add(&mut archive, "init", 0o100_755, &executable(greeting));
    add(&mut archive, "TRAILER!!!", 0, &[]);
    archive
}

fn add(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    let numbers = [1, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    archive.extend(b"070701");
    archive.extend(numbers.map(|number| format!("{number:08x}")).concat().bytes());
    archive.extend(name.bytes().chain([0]));
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}
