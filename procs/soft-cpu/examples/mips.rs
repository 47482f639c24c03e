//! How many million instructions a second a few simple loops reach; with `JIT=on` in the environment, when
//! compiled.

use std::time::Instant;

use bulkhead_hypervisor::{Exit, Hypervisor};
use bulkhead_memory::{Grant, GuestRange, RamLayout, Rights};
use bulkhead_soft_cpu::{Compiling, Soft};
use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, al, dl, dword_ptr, dx, eax, ebx, ecx, edi, edx, esi, esp};

type Failure = Box<dyn std::error::Error>;

const CODE: u64 = 0x10000;
const COUNT: u32 = 50_000_000;

/// Runs flat 32-bit code until it writes to port 0x80.
fn run(name: &str, per_round: u32, code: &[u8]) -> Result<(), Failure> {
    let layout = RamLayout::new(4 << 20)?;
    let memfd = bulkhead_sys::memfd::create_sealed("ram", layout.total())?;
    let memory = Grant::whole(&layout, Rights::ReadWrite).map(&memfd)?;
    memory.check(GuestRange::new(CODE, code.len() as u64))?.copy_out(code)?;
    let compiles = std::env::var("JIT").is_ok_and(|jit| jit == "on");
    let engine: Box<dyn Hypervisor> =
        if compiles { Box::new(Compiling::new(1)?) } else { Box::new(Soft) };
    let vm = engine.create_vm(&memory)?;
    let mut vcpu = vm.create_vcpu(0, 1)?;
    let mut state = vcpu.state()?;
    // Long mode, identity-mapped by one 1 GiB page.
    memory.check(GuestRange::new(0x1000, 8))?.copy_out(&0x2003u64.to_le_bytes())?;
    memory.check(GuestRange::new(0x2000, 8))?.copy_out(&0x83u64.to_le_bytes())?;
    let sregs = &mut state.sregs;
    (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (0x8000_0011, 0x1000, 0x20, 0x500);
    for segment in [&mut sregs.cs, &mut sregs.ds, &mut sregs.es, &mut sregs.ss] {
        (segment.base, segment.limit, segment.g) = (0, u32::MAX, 1);
    }
    (sregs.cs.l, sregs.cs.db, sregs.cs.type_) = (1, 0, 0xb);
    (state.regs.rip, state.regs.rsp, state.regs.rflags) = (CODE, 0x9000, 2);
    vcpu.set_state(&state)?;
    let started = Instant::now();
    let exit = vcpu.run()?;
    if !matches!(exit, Exit::PioOut { port: 0x80, .. }) {
        return Err(format!("{exit:?}").into());
    }
    let seconds = started.elapsed().as_secs_f64();
    let mips = f64::from(COUNT) * f64::from(per_round) / seconds / 1e6;
    println!("{name:12} {mips:7.0} MIPS");
    Ok(())
}

fn finish(mut code: CodeAssembler) -> Result<Vec<u8>, IcedError> {
    code.mov(dx, 0x80u32)?;
    code.mov(al, 1u32)?;
    code.out(dx, al)?;
    code.assemble(CODE)
}

fn main() -> Result<(), Failure> {
    let mut code = CodeAssembler::new(64)?;
    let mut again = code.create_label();
    code.mov(ecx, COUNT)?;
    code.set_label(&mut again)?;
    code.dec(ecx)?;
    code.jnz(again)?;
    run("count", 2, &finish(code)?)?;

    // What the command measures KVM and the host by.
    let mut code = CodeAssembler::new(64)?;
    let mut again = code.create_label();
    code.mov(ecx, COUNT)?;
    code.set_label(&mut again)?;
    code.add(eax, ecx)?;
    code.xor(ebx, eax)?;
    code.rol(ebx, 3u32)?;
    code.dec(ecx)?;
    code.jnz(again)?;
    run("probe", 5, &finish(code)?)?;

    let mut code = CodeAssembler::new(64)?;
    let mut again = code.create_label();
    code.mov(ecx, COUNT)?;
    code.mov(esi, 0x20000u32)?;
    code.set_label(&mut again)?;
    code.mov(eax, dword_ptr(iced_x86::code_asm::rsi))?;
    code.add(eax, ecx)?;
    code.mov(dword_ptr(iced_x86::code_asm::rsi + 8), eax)?;
    code.xor(ebx, eax)?;
    code.lea(edi, dword_ptr(iced_x86::code_asm::rbx + iced_x86::code_asm::rcx * 4))?;
    code.shr(edi, 3u32)?;
    code.cmp(edi, edx)?;
    code.dec(ecx)?;
    code.jnz(again)?;
    run("mixed", 9, &finish(code)?)?;

    let mut code = CodeAssembler::new(64)?;
    let (mut again, mut callee) = (code.create_label(), code.create_label());
    code.mov(ecx, COUNT)?;
    code.set_label(&mut again)?;
    code.call(callee)?;
    code.dec(ecx)?;
    code.jnz(again)?;
    code.mov(dx, 0x80u32)?;
    code.out(dx, al)?;
    code.set_label(&mut callee)?;
    code.add(eax, 1u32)?;
    code.ret()?;
    let _ = (dl, esp);
    run("call/ret", 5, &finish(code)?)?;
    Ok(())
}
