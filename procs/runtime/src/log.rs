//! One line on descriptor 2, which is the log pipe.

use std::io::Write;
use std::sync::Mutex;

use bulkhead_sys::readiness;

/// Longest line in bytes, its newline included. A pipe that polls writable has room for a page, so
/// a write of this size cannot block even if the pipe is in blocking mode.
const LONGEST: usize = 4096;

/// Two threads must not both believe in the same free page.
static TURN: Mutex<()> = Mutex::new(());

/// Writes `line` on the log pipe; never blocks. Control characters become spaces, a line that is too
/// long is cut, and one for which the reader left no room is lost.
pub fn log(line: &str) {
    let bytes = bytes(line);
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let stderr = std::io::stderr();
    if readiness::is_writable(&stderr) {
        let _ = stderr.lock().write_all(&bytes);
    }
}

fn bytes(line: &str) -> Vec<u8> {
    let cut = line.bytes().take(LONGEST - 1).map(printable);
    cut.chain([b'\n']).collect()
}

/// A line is one line, whatever a peer put into it.
fn printable(byte: u8) -> u8 {
    match byte {
        0..0x20 | 0x7f => b' ',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_of_at_most_a_page() {
        assert_eq!(bytes("a\nb\x1b[2J"), b"a b [2J\n");
        let long = bytes(&"x".repeat(10_000));
        assert_eq!(long.len(), LONGEST);
        assert_eq!(long.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
