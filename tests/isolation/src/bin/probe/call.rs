//! A system call by number.

use std::io;

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
