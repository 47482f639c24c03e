//! System calls by number.

use std::io;
use std::time::Instant;

use bulkhead_isolation::attempt::{Abi, Told};

/// The bit that marks x32 numbers.
const X32_BIT: u64 = 0x4000_0000;

/// Makes a call.
pub fn sys<const N: usize>(number: libc::c_long, arguments: [u64; N]) -> io::Result<u64> {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&arguments);
    raw(number as u64, all)
}

/// Makes a call by any of the kernel's entries.
pub fn by(abi: Abi, number: u64, arguments: [u64; 6]) -> io::Result<u64> {
    match abi {
        Abi::Native => raw(number, arguments),
        Abi::X32 => raw(number | X32_BIT, arguments),
        Abi::I386 => int_80(number as u32, arguments[0] as u32),
    }
}

fn raw(number: u64, arguments: [u64; 6]) -> io::Result<u64> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: none. The probe stands for code that keeps no rules; it works in a process of its own.
    let result = unsafe { libc::syscall(number as libc::c_long, a, b, c, d, e, f) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result as u64),
    }
}

/// `int 0x80`, with one argument three times.
fn int_80(number: u32, argument: u32) -> io::Result<u64> {
    let result: i32;
    // SAFETY: none, as above. rbx is LLVM's own, so it is put back.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {argument:r}",
            "int 0x80",
            "xchg rbx, {argument:r}",
            argument = inout(reg) u64::from(argument) => _,
            inout("eax") number => result,
            in("ecx") argument,
            in("edx") argument,
            options(nostack),
        );
    }
    match u32::try_from(result) {
        Ok(result) => Ok(u64::from(result)),
        Err(_) => Err(io::Error::from_raw_os_error(-result)),
    }
}

/// What came of something, as it is told.
pub fn told(result: io::Result<Vec<u8>>) -> Told {
    match result {
        Ok(loot) => Told::Reached(loot),
        Err(error) => Told::Refused(error.raw_os_error().unwrap_or(0)),
    }
}

/// How many picoseconds a call takes, on average.
pub fn cost(number: u64, arguments: [u64; 6], times: u32) -> Told {
    let begin = Instant::now();
    for _ in 0..times {
        let _ = raw(number, arguments);
    }
    let picoseconds = begin.elapsed().as_nanos() * 1000 / u128::from(times.max(1));
    Told::Reached((picoseconds as u64).to_le_bytes().to_vec())
}
