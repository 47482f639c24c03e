//! Any bytes as code of a guest, interpreted and compiled: whatever the guest could see is the same.
//!
//! Every block is compiled before it is first executed, and time is the number of instructions, so that both
//! are interrupted at the same ones. Called by a test; no target of the fuzzer, whose alarms would write to the
//! stack that compiled code does not have.

use bulkhead_memory::{GuestMemory, GuestRange};
use bulkhead_soft_cpu::state::{Reg, cr0, rflags};
use bulkhead_soft_cpu::{Cpu, Turns};
use bulkhead_sys::code_memory::CodeMemory;

use crate::decoder::{Verdict, guest, guest_code};

/// Bytes of code memory: many times what an input becomes.
const CODE_MEMORY: usize = 1 << 20;

/// Instructions of a turn.
const SLICE: u32 = 512;

/// Code worth compiling.
const PIECES: [&[u8]; 8] = [
    // mov ecx, 20; again: add rax, rcx; adc rbx, rax; rol rbx, 5; dec ecx; jnz again
    b"\xb9\x14\0\0\0\x48\x01\xc8\x48\x11\xc3\x48\xc1\xc3\x05\xff\xc9\x75\xf2",
    // call; jmp to the end; push rax; push rcx; pop rcx; pop rax; ret
    b"\xe8\x02\0\0\0\xeb\x05\x50\x51\x59\x58\xc3",
    // cvtsi2sd xmm0, rax; sqrtsd xmm1, xmm0; divsd xmm1, xmm2; ucomisd xmm1, xmm3; setp al
    b"\xf2\x48\x0f\x2a\xc0\xf2\x0f\x51\xc8\xf2\x0f\x5e\xca\x66\x0f\x2e\xcb\x0f\x9a\xc0",
    // movups [rsp-32], xmm1; movaps xmm3, [rsp-32]; mulps xmm3, [rbx]; movd r9d, xmm3; fld1; addps xmm3, xmm1
    b"\x0f\x11\x4c\x24\xe0\x0f\x28\x5c\x24\xe0\x0f\x59\x1b\x66\x41\x0f\x7e\xd9\xd9\xe8\x0f\x58\xd9",
    // stmxcsr [rsp-8]; and dword ptr [rsp-8], 0xe5ff; ldmxcsr [rsp-8]; addsd xmm0, xmm1; divsd xmm0, xmm2
    b"\x0f\xae\x5c\x24\xf8\x81\x64\x24\xf8\xff\xe5\0\0\x0f\xae\x54\x24\xf8\xf2\x0f\x58\xc1\xf2\x0f\x5e\xc2",
    // pcmpeqb xmm0, xmm1; pmovmskb r9d, xmm0; pextrw eax, xmm0, 3; ptest xmm0, xmm1; jc over pshufb xmm0, xmm1
    b"\x66\x0f\x74\xc1\x66\x44\x0f\xd7\xc8\x66\x0f\xc5\xc0\x03\x66\x0f\x38\x17\xc1\x72\x05\x66\x0f\x38\0\xc1",
    // mov byte ptr [the next instruction's operand], 7; mov al, 5; lea rdx, [behind]; jmp rdx
    b"\xc6\x05\x01\0\0\0\x07\xb0\x05\x48\x8d\x15\x02\0\0\0\xff\xe2",
    // cqo; idiv rcx; div ebx; lock add [rsp], rax; xchg [rsp-8], r10; rep stosb
    b"\x48\x99\x48\xf7\xf9\xf7\xf3\xf0\x48\x01\x04\x24\x4c\x87\x54\x24\xf8\xf3\xaa",
];

/// Most turns of each.
const TURNS: u32 = 24;

thread_local! {
    static MEMORIES: [GuestMemory; 2] = [guest::ram(guest::RAM).0, guest::ram(guest::RAM).0];
}

/// Each piece by itself and before another one, at both levels of 64-bit code.
pub fn samples() -> Vec<Vec<u8>> {
    let mut samples = Vec::new();
    for (first, second) in PIECES.iter().zip(PIECES.iter().cycle().skip(3)) {
        for level in 0..2 {
            let end = [0xf4];
            samples.push([&guest_code::header(level), *first, &end].concat());
            samples.push([&guest_code::header(level), *first, *second, *first, &end].concat());
        }
    }
    samples
}

/// What the guest could see of its processor.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    registers: [u64; 16],
    rip: u64,
    rflags: u64,
    vectors: [u8; 512],
    /// Everything else, as text.
    rest: String,
}

/// One of the two.
struct Twin {
    memory: GuestMemory,
    cpu: Cpu,
    turns: u32,
    ended: Option<Turns>,
    /// What the last read from outside has found.
    answer: u64,
}

/// Executes an input on both, turn by turn, the one that is behind first. They are compared wherever they have
/// executed as many instructions. Accepted is one of which anything was compiled, and that ended so.
pub fn run(bytes: &[u8]) -> Verdict {
    MEMORIES.with(|[one, other]| {
        let (mut one, mut other) = (Twin::new(one, bytes, false), Twin::new(other, bytes, true));
        let mut is_even = true;
        while one.ended.is_none() || other.ended.is_none() {
            let is_behind = one.progress() <= other.progress();
            let next = match (one.ended, other.ended) {
                (None, Some(_)) => &mut one,
                (None, None) if is_behind => &mut one,
                _ => &mut other,
            };
            if next.turns == TURNS {
                break;
            }
            next.execute();
            is_even = one.progress() == other.progress() && one.ended == other.ended;
            if is_even {
                assert_eq!(one.seen(), other.seen());
            }
        }
        assert!(!is_even || one.memory() == other.memory(), "memory differs");
        Verdict::accepted_if(is_even && other.cpu.compiled_blocks() > 0)
    })
}

impl Twin {
    fn new(memory: &GuestMemory, bytes: &[u8], compiles: bool) -> Self {
        let all = memory.check(GuestRange::new(0, guest::RAM)).expect("all of it");
        all.zero().expect("writable memory");
        let mut cpu = Cpu::solitary(memory).expect("a processor that this host can be");
        cpu.count_instructions(SLICE);
        if compiles {
            cpu.compile_blocks(CodeMemory::new(CODE_MEMORY).expect("code memory"), 0);
        }
        guest_code::set_up(memory, &mut cpu, bytes);
        // What is looked at after each instruction is never compiled: few of the inputs are to be so.
        if bytes.first().is_none_or(|mode| mode & 0x60 != 0x60) {
            cpu.debug.control = 0x400;
            cpu.control.cr0 &= !cr0::AM;
            cpu.set_rflags(cpu.rflags() & !rflags::TF);
            cpu.refresh();
        }
        Self { memory: memory.clone(), cpu, turns: 0, ended: None, answer: 0 }
    }

    fn execute(&mut self) {
        self.turns += 1;
        let answer = &mut self.answer;
        let ended = self.cpu.execute_turns(1, &mut || {
            *answer = answer.wrapping_mul(0x0101_0101_0101_0101).wrapping_add(0x5a);
            *answer
        });
        self.ended = (ended != Turns::Over).then_some(ended);
    }

    /// How far it is: a turn that ends in an exception need not execute anything.
    fn progress(&self) -> (u64, u64) {
        (self.cpu.instructions(), self.cpu.exceptions)
    }

    fn seen(&self) -> Seen {
        let cpu = &self.cpu;
        let mut registers = [0; 16];
        for (number, value) in (0..).zip(&mut registers) {
            *value = cpu.regs.get(Reg::general(number));
        }
        let rest = format!(
            "{} {:x?} {:x?} {:x?} {:x?} {:x?}",
            cpu.exceptions, cpu.control, cpu.segments, cpu.debug, cpu.msrs, cpu.task
        );
        Seen { registers, rip: cpu.rip(), rflags: cpu.rflags(), vectors: cpu.fx.to_bytes(), rest }
    }

    fn memory(&self) -> Vec<u8> {
        let mut content = vec![0; guest::RAM as usize];
        let all = self.memory.check(GuestRange::new(0, guest::RAM)).expect("all of it");
        all.copy_in(&mut content).expect("its own length");
        content
    }
}
