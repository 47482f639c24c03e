//! What /proc tells about one process. Whatever cannot be seen by this user is `None`.

use std::fs;

/// Name of the guest memory's object, as it stands in /proc/PID/smaps.
pub const GUEST_RAM: &str = "/memfd:guest-ram";

/// The process's uid, as the caller's user namespace sees it.
pub fn uid(pid: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Proportional set size in KiB without guest memory, and guest memory mapped in KiB.
pub fn memory(pid: i32) -> Option<(u64, u64)> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).ok()?;
    let (mut pss, mut guest, mut in_guest) = (0, 0, false);
    for line in smaps.lines() {
        if let Some(value) = line.strip_prefix("Pss:") {
            pss += if in_guest { 0 } else { kib(value) };
        } else if let Some(value) = line.strip_prefix("Size:") {
            guest += if in_guest { kib(value) } else { 0 };
        } else if is_header(line) {
            in_guest = line.contains(GUEST_RAM);
        }
    }
    Some((pss, guest))
}

fn is_header(line: &str) -> bool {
    line.split_whitespace().next().is_some_and(|word| word.contains('-') && !word.ends_with(':'))
}

fn kib(value: &str) -> u64 {
    value.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// CPU time used so far in milliseconds.
pub fn cpu_ms(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = stat.rsplit_once(") ")?.1;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    Some((user + system) * 1000 / u64::try_from(per_second).ok()?.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_itself() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(uid(pid), Some(bulkhead_sys::identity::uid()));
        let (pss, guest) = memory(pid).unwrap();
        assert!(pss > 0 && guest == 0);
        assert!(cpu_ms(pid).is_some());
    }
}
