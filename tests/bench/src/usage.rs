//! CPU time of processes, to the nanosecond.

use std::time::Duration;

/// CPU time that all threads of these processes have used so far.
pub fn cpu_time(pids: &[u32]) -> Duration {
    pids.iter().map(|pid| of_process(*pid)).sum()
}

fn of_process(pid: u32) -> Duration {
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
