//! Refusing what a user asked for: option, value, reason and remedy, each in the user's words.
//!
//! Called by the plan and, while the instance starts, by the live part. The `bulkhead` command prints
//! it on one line and exits 2; nothing must be left behind.

use std::io;

use bulkhead_protocol::session::Refusal;

/// Makes a refusal.
pub fn refuse(
    option: impl Into<String>,
    value: impl std::fmt::Display,
    reason: impl std::fmt::Display,
    remedy: impl Into<String>,
) -> Refusal {
    Refusal {
        option: option.into(),
        value: one_line(&value.to_string()),
        reason: one_line(&reason.to_string()),
        remedy: remedy.into(),
    }
}

/// What the kernel said about a path, in words, with what to do about it.
pub fn io_reason(error: &io::Error) -> (String, &'static str) {
    let (reason, remedy) = match error.raw_os_error() {
        Some(libc::ENOENT) => ("there is no such file", "check the path"),
        Some(libc::ENOTDIR) => ("a part of the path is no directory", "check the path"),
        Some(libc::EACCES | libc::EPERM) => {
            ("you may not open it", "check its permissions and yours")
        }
        Some(libc::EROFS) => {
            ("its file system is read-only", "add readonly, or mount it for writing")
        }
        Some(libc::ETXTBSY) => ("it is a program that runs", "stop the program"),
        Some(libc::ELOOP) => {
            ("its links lead in a circle, or to a descriptor", "give a plain path")
        }
        Some(libc::ENAMETOOLONG) => ("its name is too long", "give a shorter path"),
        Some(libc::EMFILE | libc::ENFILE) => {
            ("too many files are open", "raise the limit on open files (ulimit -n)")
        }
        _ => return (error.to_string(), "check the path and the host's log"),
    };
    (reason.to_owned(), remedy)
}

/// Refuses a path for what the kernel said about it.
pub fn refuse_path(option: &str, path: &std::path::Path, error: &io::Error) -> Refusal {
    let (reason, remedy) = io_reason(error);
    refuse(option, path.display(), reason, remedy)
}

/// A refusal is one line, whatever a path or a helper put into it.
fn one_line(text: &str) -> String {
    let printable = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_whatever_the_path() {
        let refusal = refuse("--kernel", "a\nb\x1b[2J", "no", "do");
        assert_eq!(refusal.to_string(), "--kernel: a?b?[2J: no; do");
    }
}
