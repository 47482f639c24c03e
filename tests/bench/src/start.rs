//! How long a VM takes to start, and how much memory its processes take.
//!
//! The guest is a few bytes: it writes one character to ttyS0, its first port write, and halts. What
//! is measured is the time from the exec of `bulkhead` until that character is read from its stdout,
//! which is later than core's seeing it. All process classes take part: supervisor, launcher, control,
//! core, vhost-blk, vhost-console, vhost-rng, block-layer.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bulkhead_harness::{kernel, programs};

use crate::Arguments;

/// `mov dx, 0x3f8; mov al, '!'; out dx, al; sti; again: hlt; jmp again` for 32-bit protected mode.
const CODE: &[u8] = &[0x66, 0xba, 0xf8, 0x03, 0xb0, b'!', 0xee, 0xfb, 0xf4, 0xeb, 0xfd];

/// Starts measured for each round that the command line asks for.
const STARTS_PER_ROUND: usize = 20;

/// Prints both figures.
pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = tempfile::tempdir_in(&arguments.memory)?;
    std::fs::write(folder.path().join("kernel"), kernel::pvh(CODE))?;
    File::create(folder.path().join("disk"))?.set_len(64 << 20)?;
    let mut times = Vec::new();
    for number in 0..arguments.rounds * STARTS_PER_ROUND {
        times.push(start_once(folder.path(), number)?);
    }
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    println!("| starts | p50 | p90 | p99 |\n| --- | --- | --- | --- |");
    println!("| {} | {:.1?} | {:.1?} | {:.1?} |", times.len(), at(50), at(90), at(99));
    let pss = idle_memory(folder.path())?;
    println!("\n| processes | PSS without guest RAM, KiB |\n| --- | --- |");
    let mut sum = 0;
    for (role, kib) in pss {
        println!("| {role} | {kib} |");
        sum += kib;
    }
    println!("| all | {sum} |");
    Ok(())
}

fn spawn(folder: &Path, name: &str) -> Result<Child> {
    let disk = format!("path={},format=raw", folder.join("disk").display());
    let console = format!("file={}", folder.join("console").display());
    let mut command: Command = programs::bulkhead();
    command.args(["run", "--name", name, "--cpu", "kvm", "--memory", "64M", "--rng"]);
    command.args(["--disk", &disk]);
    command.args(["--console", &console]).arg("--kernel").arg(folder.join("kernel"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().context("bulkhead does not start")
}

fn first_character(child: &mut Child) -> Result<()> {
    let mut character = [0; 1];
    let stdout = child.stdout.as_mut().context("stdout is piped")?;
    stdout.read_exact(&mut character).context("the guest said nothing")?;
    if character != *b"!" {
        bail!("the guest said {character:?}");
    }
    Ok(())
}

fn end(mut child: Child, name: &str) -> Result<()> {
    programs::bulkhead().args(["kill", name]).status()?;
    child.wait()?;
    Ok(())
}

fn start_once(folder: &Path, number: usize) -> Result<Duration> {
    let name = format!("bench-{}-{number}", std::process::id());
    let begin = Instant::now();
    let mut child = spawn(folder, &name)?;
    first_character(&mut child)?;
    let took = begin.elapsed();
    end(child, &name)?;
    Ok(took)
}

fn idle_memory(folder: &Path) -> Result<Vec<(String, u64)>> {
    let name = format!("bench-{}-idle", std::process::id());
    let mut child = spawn(folder, &name)?;
    first_character(&mut child)?;
    std::thread::sleep(Duration::from_secs(1));
    let found = bulkhead_harness::storage::processes(&name);
    end(child, &name)?;
    Ok(found.into_iter().map(|one| (one.role, one.pss_kib.unwrap_or(0))).collect())
}
