//! CPU time of processes, to the nanosecond while their threads live.

use std::time::Duration;

/// CPU time that all threads of these processes have used so far.
pub fn cpu_time(pids: &[u32]) -> Duration {
    pids.iter().map(|pid| of_process(*pid)).sum()
}

/// Of a server with a thread for each client there is nothing left in `task` afterwards: of such, what
/// the process as a whole has used, in ticks.
fn of_process(pid: u32) -> Duration {
    of_threads(pid).max(in_ticks(pid).unwrap_or_default())
}

fn in_ticks(pid: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything but ends with the last parenthesis.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

fn of_threads(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    tasks.map(|task| of_thread(&task.path().join("schedstat"))).sum()
}

/// The first number of `schedstat`: nanoseconds on a CPU.
fn of_thread(path: &std::path::Path) -> Duration {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}
