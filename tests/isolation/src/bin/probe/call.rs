//! A system call by number.

use std::io;
use std::time::Instant;

use bulkhead_isolation::attempt::Told;

/// Makes it.
pub fn raw(number: u64, arguments: [u64; 6]) -> io::Result<u64> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: none. The probe stands for code that keeps no rules; it works in a process of its own.
    let result = unsafe { libc::syscall(number as libc::c_long, a, b, c, d, e, f) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result as u64),
    }
}

/// What a plain number is worth telling.
pub fn tell(result: io::Result<u64>) -> Told {
    match result {
        Ok(number) => Told::Reached(number.to_le_bytes().to_vec()),
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
