//! Reading `/proc/PID`. `None`: this user may not, or the process is gone.

use std::collections::BTreeMap;
use std::fs;

/// A file of the process.
pub fn read(pid: i32, file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).ok()
}

/// Where a link of the process leads.
pub fn link(pid: i32, link: &str) -> Option<String> {
    let target = fs::read_link(format!("/proc/{pid}/{link}")).ok()?;
    Some(target.to_string_lossy().into_owned())
}

/// Names in a directory of the process.
pub fn names(pid: i32, folder: &str) -> Option<Vec<String>> {
    let entries = fs::read_dir(format!("/proc/{pid}/{folder}")).ok()?;
    entries.map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

/// The lines `Name: value` of a file of the process.
pub fn fields(pid: i32, file: &str) -> Option<BTreeMap<String, String>> {
    let text = read(pid, file)?;
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    Some(text.lines().filter_map(field).collect())
}
