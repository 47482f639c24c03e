//! What `/proc` shows of a process from outside.

use std::collections::BTreeMap;
use std::fs;

/// Fields of `/proc/PID/status`.
pub fn status(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// Whether these tests run as root.
pub fn is_root() -> bool {
    bulkhead_sys::identity::is_root()
}

fn folder(pid: i32) -> String {
    if pid == 0 { "/proc/self".to_owned() } else { format!("/proc/{pid}") }
}

/// Where a link in `/proc/PID` leads (`ns/user`, `root`, `exe`); process 0 is the caller.
pub fn link(pid: i32, name: &str) -> String {
    let target = fs::read_link(format!("{}/{name}", folder(pid))).expect("the process is there");
    target.to_string_lossy().into_owned()
}

/// Every descriptor and what it leads to.
pub fn descriptors(pid: i32) -> BTreeMap<i32, String> {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is there");
    let numbers = folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.map(|number: i32| (number, link(pid, &format!("fd/{number}")))).collect()
}

/// The address of a process's first mapping of its program.
pub fn text_base(pid: i32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process is there");
    let exe = link(pid, "exe");
    let line = maps.lines().find(|line| line.ends_with(&exe)).expect("its program is mapped");
    let start = line.split('-').next().expect("a range");
    u64::from_str_radix(start, 16).expect("an address")
}

/// Soft and hard limit of a resource, by its name in `/proc/PID/limits`.
pub fn limit(pid: i32, name: &str) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let mut words = line.strip_prefix(name)?.split_whitespace().map(number);
    Some((words.next()??, words.next()??))
}

fn number(word: &str) -> Option<u64> {
    if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() }
}
