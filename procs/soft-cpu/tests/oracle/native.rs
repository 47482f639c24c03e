//! The host's side: pages at the guest's own addresses, a switch of the whole register state, and signal handlers that turn
//! exceptions into outcomes.
//!
//! One thread only: the state block and the pages have fixed addresses.

use core::arch::asm;
use std::mem::{offset_of, zeroed};
use std::ptr::{addr_of_mut, null_mut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::layout::{
    self, Bits, CODE, CODE16, CODE32, DATA, DATA_LEN, GATES, READ_ONLY, SEGMENTS_16, STATE,
};
use crate::state::{FLAGS, Fault, Outcome, State};

/// The state block at `STATE`.
#[repr(C, align(64))]
struct Block {
    state: State,
    host_stack: u64,
    entry: u64,
    exit: u64,
    /// Offset and selector of the code to enter that is not 64-bit code.
    far: [u32; 2],
    /// DS, ES, SS.
    segments: [u16; 4],
    fault: Fault,
    has_fault: u64,
    fault_rip: u64,
}

pub struct Native {
    _pages: MutexGuard<'static, bool>,
}

/// Only one test at a time has the pages.
static PAGES: Mutex<bool> = Mutex::new(false);

impl Native {
    pub fn new() -> Self {
        let mut are_mapped = PAGES.lock().unwrap_or_else(PoisonError::into_inner);
        if !*are_mapped {
            map_pages();
            *are_mapped = true;
        }
        handle_signals();
        Self { _pages: are_mapped }
    }

    /// Writes an instruction and the way out behind it.
    pub fn place(&self, bits: Bits, at: u64, bytes: &[u8]) {
        let mut code = bytes.to_vec();
        match bits {
            Bits::Bits64 => code.extend(jump(0x24, offset_of!(Block, exit))),
            Bits::Bits32 | Bits::Bits16 => {
                // jmp 0x33:GATES + 16
                if bits == Bits::Bits16 {
                    code.push(0x66);
                }
                code.push(0xea);
                code.extend((GATES as u32 + 16).to_le_bytes());
                code.extend([0x33, 0]);
            }
        }
        write_code(at, &code);
    }

    /// The data pages.
    pub fn data(&self) -> &[u8] {
        // SAFETY: mapped in `new` for ever; nothing native runs while the slice is looked at.
        unsafe { std::slice::from_raw_parts(DATA as *const u8, DATA_LEN as usize) }
    }

    /// Puts bytes where the data is.
    pub fn plant(&self, at: u64, bytes: &[u8]) {
        // SAFETY: callers name places within the data pages; nothing native runs.
        unsafe { (at as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// Runs what was placed there.
    pub fn run(&self, bits: Bits, at: u64, before: &State) -> Outcome {
        let block = STATE as *mut Block;
        // SAFETY: the block is mapped, and only this thread uses it.
        unsafe {
            (*block).state = before.clone();
            (*block).entry = if bits == Bits::Bits64 { at } else { GATES };
            let [code, segments @ ..] = match bits {
                Bits::Bits16 => SEGMENTS_16.map(|segment| segment.selector),
                // Null in a 64-bit process, but 32-bit code reaches data through these.
                Bits::Bits32 | Bits::Bits64 => [0x23, 0x2b, 0x2b, 0x2b],
            };
            (*block).far = [layout::ip(bits, at) as u32, code.into()];
            (*block).segments = [segments[0], segments[1], segments[2], 0];
            (*block).has_fault = 0;
            switch();
            let has_fault = (*block).has_fault != 0;
            let mut state = (*block).state.clone();
            state.flags &= FLAGS;
            state.rip = if has_fault { (*block).fault_rip } else { 0 };
            Outcome { state, fault: has_fault.then_some((*block).fault) }
        }
    }
}

fn map_pages() {
    let code = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    for page in [CODE, CODE32, CODE16, GATES] {
        map(page, 4096, code);
    }
    for (at, len) in [(STATE, 4096), (DATA, DATA_LEN), (READ_ONLY, 4096)] {
        map(at, len, libc::PROT_READ | libc::PROT_WRITE);
    }
    for (start, len) in [(DATA, DATA_LEN), (READ_ONLY, 4096)] {
        for at in 0..len {
            // SAFETY: just mapped.
            unsafe { ((start + at) as *mut u8).write(pattern(at)) };
        }
    }
    // SAFETY: the page is ours.
    unsafe { libc::mprotect(READ_ONLY as *mut _, 4096, libc::PROT_READ) };
    // At its start: jmp fword ptr [far]; then jmp [exit].
    write_code(GATES, &jump(0x2c, offset_of!(Block, far)));
    write_code(GATES + 16, &jump(0x24, offset_of!(Block, exit)));
    make_segments();
}

/// 16-bit segments, in the local descriptor table of the process.
fn make_segments() {
    const WRITE: i32 = 0x11;
    for (index, segment) in (0u32..).zip(SEGMENTS_16) {
        let contents = if segment.is_code { 2 } else { 0 };
        let descriptor = [index, segment.base as u32, segment.limit, contents << 1 | 1 << 6];
        let len = size_of_val(&descriptor);
        // SAFETY: a `struct user_desc`, of which the kernel only reads.
        let result =
            unsafe { libc::syscall(libc::SYS_modify_ldt, WRITE, descriptor.as_ptr(), len) };
        assert_eq!(result, 0, "this kernel gives no 16-bit segments");
    }
}

/// `jmp` through a pointer in the state block; `modrm` says whether near or far.
fn jump(modrm: u8, field: usize) -> Vec<u8> {
    let pointer = (STATE as usize + field) as u32;
    [vec![0xff, modrm, 0x25], pointer.to_le_bytes().to_vec()].concat()
}

fn write_code(at: u64, code: &[u8]) {
    // SAFETY: callers name places on the code pages, long enough for any instruction and a jump.
    unsafe { (at as *mut u8).copy_from_nonoverlapping(code.as_ptr(), code.len()) };
}

/// What the data pages hold at first.
pub fn pattern(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9) >> 13) as u8
}

fn map(at: u64, len: u64, protection: i32) {
    let flags =
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | libc::MAP_POPULATE;
    // SAFETY: maps fresh pages where nothing is.
    let got = unsafe { libc::mmap(at as *mut _, len as usize, protection, flags, -1, 0) };
    assert_eq!(got as u64, at, "the oracle's address {at:#x} is taken");
}

/// Loads everything from the block, jumps to the instruction, and stores everything.
///
/// # Safety
/// The block is mapped and filled; the instruction ends at the exit or faults.
#[inline(never)]
unsafe fn switch() {
    // SAFETY: the caller's promise. All registers are saved or declared lost; x87 and MXCSR end as Rust wants them.
    unsafe {
        asm!(
            "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
            "mov [{stack}], rsp",
            "lea rax, [rip + 2f]", "mov [{exit}], rax",
            "fxrstor64 [{fx}]",
            "push qword ptr [{flags}]", "popfq",
            "mov ds, [{segments}]", "mov es, [{segments} + 2]", "mov ss, [{segments} + 4]",
            "mov rax, [{state}]", "mov rcx, [{state} + 8]", "mov rdx, [{state} + 16]", "mov rbx, [{state} + 24]",
            "mov rsp, [{state} + 32]", "mov rbp, [{state} + 40]", "mov rsi, [{state} + 48]", "mov rdi, [{state} + 56]",
            "mov r8, [{state} + 64]", "mov r9, [{state} + 72]", "mov r10, [{state} + 80]", "mov r11, [{state} + 88]",
            "mov r12, [{state} + 96]", "mov r13, [{state} + 104]", "mov r14, [{state} + 112]", "mov r15, [{state} + 120]",
            "jmp [{entry}]",
            "2:",
            "mov [{state}], rax", "mov [{state} + 8], rcx", "mov [{state} + 16], rdx", "mov [{state} + 24], rbx",
            "mov [{state} + 32], rsp", "mov [{state} + 40], rbp", "mov [{state} + 48], rsi", "mov [{state} + 56], rdi",
            "mov [{state} + 64], r8", "mov [{state} + 72], r9", "mov [{state} + 80], r10", "mov [{state} + 88], r11",
            "mov [{state} + 96], r12", "mov [{state} + 104], r13", "mov [{state} + 112], r14", "mov [{state} + 120], r15",
            "mov eax, 0x2b", "mov ss, eax", "mov ds, eax", "mov es, eax",
            "mov rsp, [{stack}]",
            "pushfq", "pop qword ptr [{flags}]", "cld",
            "fxsave64 [{fx}]", "fninit", "push 0x1f80", "ldmxcsr [rsp]", "pop rax",
            "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
            state = const STATE as usize,
            flags = const STATE as usize + offset_of!(State, flags),
            fx = const STATE as usize + offset_of!(State, fx),
            stack = const STATE as usize + offset_of!(Block, host_stack),
            segments = const STATE as usize + offset_of!(Block, segments),
            entry = const STATE as usize + offset_of!(Block, entry),
            exit = const STATE as usize + offset_of!(Block, exit),
            clobber_abi("sysv64"),
        );
    }
}

fn handle_signals() {
    const ALTERNATE: usize = 1 << 16;
    let stack = Box::leak(Box::new([0u8; ALTERNATE]));
    // SAFETY: plain system calls with valid arguments; the stack lives for ever.
    unsafe {
        let alternate =
            libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: ALTERNATE };
        libc::sigaltstack(&alternate, null_mut());
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        for signal in [libc::SIGSEGV, libc::SIGFPE, libc::SIGILL, libc::SIGBUS, libc::SIGTRAP] {
            libc::sigaction(signal, &action, null_mut());
        }
    }
}

/// Of a selector.
const IN_LOCAL_TABLE: u64 = 4;

extern "C" fn on_signal(signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let block = STATE as *mut Block;
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel gives a valid context; the block is mapped.
    unsafe {
        let registers = addr_of_mut!((*context).uc_mcontext.gregs).cast::<i64>();
        let get = |index: i32| *registers.add(index as usize) as u64;
        let (rip, selectors) = (get(libc::REG_RIP), get(libc::REG_CSGSFS));
        let base = if selectors & IN_LOCAL_TABLE != 0 { SEGMENTS_16[0].base } else { 0 };
        if ![CODE, CODE32, CODE16].contains(&((base + rip) & !0xfff)) {
            // Not the instruction under test: die of it.
            libc::signal(signal, libc::SIG_DFL);
            return;
        }
        let vector = get(libc::REG_TRAPNO);
        let address = if vector == 14 { get(libc::REG_CR2) } else { 0 };
        let code = if matches!(vector, 10..=14 | 17) { get(libc::REG_ERR) } else { 0 };
        (*block).fault = Fault { vector, code, address };
        (*block).has_fault = 1;
        (*block).fault_rip = rip;
        *registers.add(libc::REG_RIP as usize) = (*block).exit as i64;
        let selectors = registers.add(libc::REG_CSGSFS as usize);
        *selectors = *selectors & 0x0000_ffff_ffff_0000 | 0x33 | 0x2b << 48;
    }
}
