//! `bulkhead ps`: instances and their processes.

use std::process::ExitCode;

use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::control::{ProcessInfo, ProcessState, Request, Response};
use bulkhead_protocol::soft_cpu::Counters;
use serde::Serialize;

use super::{Client, proc};
use crate::cli::PsOptions;
use crate::runtime_dir;

/// One line of the list.
#[derive(Debug, Serialize)]
struct Row {
    vm: String,
    role: ProcessClass,
    id: String,
    pid: i32,
    uid: Option<u32>,
    state: ProcessState,
    restarts: u64,
    allowed_syscalls: usize,
    guest_ram_kib: Option<u64>,
    pss_kib: Option<u64>,
    cpu_ms: Option<u64>,
    cpus: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counters: Option<Counters>,
}

/// Prints the list.
pub fn show(options: &PsOptions) -> anyhow::Result<ExitCode> {
    let names = match &options.name {
        Some(name) => vec![name.clone()],
        None => runtime_dir::instances(),
    };
    let mut rows = Vec::new();
    for name in names {
        match processes(&name) {
            Ok(found) => {
                let first = rows.len();
                rows.extend(found.into_iter().map(|info| row(&name, info)));
                if options.verbose {
                    count(&name, rows.get_mut(first..).unwrap_or_default());
                }
            }
            // A folder whose instance is gone is no news unless it was asked for by name.
            Err(error) if options.name.is_some() => return Err(error),
            Err(_) => {}
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print_table(&rows);
        rows.iter().filter_map(counted).for_each(|lines| print!("{lines}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The processes of the instance `name`.
pub fn processes(name: &str) -> anyhow::Result<Vec<ProcessInfo>> {
    match Client::connect(name)?.ask(&Request::Processes)?.0 {
        Response::Processes(list) => Ok(list),
        Response::Refused(reason) => anyhow::bail!("{reason}"),
        _ => anyhow::bail!("the control process of {name} cannot be understood"),
    }
}

/// Asks the software CPU among these rows, if there is one, for its counters.
fn count(name: &str, rows: &mut [Row]) {
    let soft = rows.iter_mut().find(|row| row.role == ProcessClass::SoftCpu);
    let ask = || Client::connect(name)?.ask(&Request::Counters);
    if let Some(row) = soft
        && let Ok((Response::Counters(counters), _)) = ask()
    {
        row.counters = counters;
    }
}

/// A software CPU's counters as text.
fn counted(row: &Row) -> Option<String> {
    let counters = row.counters?;
    let mut text = format!("\n{}: the software CPU", row.vm);
    if let Some(ms @ 1..) = row.cpu_ms {
        let mips = counters.instructions / 1000 / ms;
        text += &format!(", at {mips} million instructions a second of its CPU time");
    }
    for (name, count) in counters.named() {
        text += &format!("\n  {name:<13} {count}");
    }
    Some(text + "\n")
}

fn row(vm: &str, info: ProcessInfo) -> Row {
    let memory = proc::memory(info.pid);
    Row {
        vm: vm.to_owned(),
        role: info.role,
        id: info.id,
        pid: info.pid,
        uid: proc::uid(info.pid),
        state: info.state,
        restarts: info.restarts,
        allowed_syscalls: crate::policy::allowed_syscalls(info.role),
        guest_ram_kib: memory.map(|(_, guest)| guest),
        pss_kib: memory.map(|(pss, _)| pss),
        cpu_ms: proc::cpu_ms(info.pid),
        cpus: info.cpus,
        counters: None,
    }
}

fn print_table(rows: &[Row]) {
    let heads = [
        "VM",
        "ROLE",
        "ID",
        "PID",
        "UID",
        "STATE",
        "RESTARTS",
        "SYSCALLS",
        "GUEST-RAM",
        "PSS",
        "CPU",
    ];
    let mut lines = vec![heads.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: [usize; 11] = std::array::from_fn(width);
    for line in &lines {
        let text: Vec<String> =
            std::iter::zip(line, widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("{}", text.join("  ").trim_end());
    }
}

fn cells(row: &Row) -> [String; 11] {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    [
        row.vm.clone(),
        row.role.name().to_owned(),
        or_dash((!row.id.is_empty()).then(|| row.id.clone())),
        or_dash((row.pid != 0).then(|| row.pid.to_string())),
        or_dash(row.uid.map(|uid| uid.to_string())),
        state(row.state).to_owned(),
        row.restarts.to_string(),
        row.allowed_syscalls.to_string(),
        or_dash(row.guest_ram_kib.map(|kib| format!("{}M", kib >> 10))),
        or_dash(row.pss_kib.map(|kib| format!("{kib}K"))),
        or_dash(row.cpu_ms.map(|ms| format!("{}.{:02}s", ms / 1000, ms % 1000 / 10))),
    ]
}

const fn state(state: ProcessState) -> &'static str {
    match state {
        ProcessState::Starting => "starting",
        ProcessState::Running => "running",
        ProcessState::Restarting => "restarting",
        ProcessState::Degraded => "degraded",
        ProcessState::Quarantined => "quarantined",
    }
}
