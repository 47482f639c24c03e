//! Snapshots: an external one of a disk under load, an internal one of an image that is off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bulkhead_harness::frontend::{Frontend, Layout, Options, Queue, Request, SECTOR};
use bulkhead_harness::programs;
use bulkhead_harness::storage;

use super::command::{command, output, text, timed};
use super::table::{Line, Turn, Unit, bound, take_turns};
use crate::Arguments;
use crate::contender::{SIZE, image};
use crate::report::median;

const EXTERNAL: &str = "snapshot under 32 random writes";
const INTERNAL: &str = "internal snapshot, 1 GiB allocated";

/// Most snapshots of one disk here: its chain has an end.
const MOST: usize = 7;

/// Both.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.wants(EXTERNAL) {
        external(arguments)?;
    }
    if arguments.wants(INTERNAL) {
        internal(arguments)?;
    }
    Ok(())
}

fn external(arguments: &Arguments) -> Result<()> {
    let folder = tempfile::tempdir_in(&arguments.memory)?;
    let base = folder.path().join("base.qcow2");
    output(&mut command(&["qemu-img", "create", "-q", "-f", "qcow2", text(&base), "1G"]))?;
    let served = storage::Storage::start(&storage::Options::new(&base, 1).disk(",format=qcow2"));
    let (_frontend, mut queues) = Frontend::connect_with(served.socket(), Options::new(1, 32))?;
    let longest = Arc::new(AtomicU64::new(0));
    let ends = Arc::new(AtomicBool::new(false));
    let queue = queues.remove(0);
    let writer = {
        let (longest, ends) = (Arc::clone(&longest), Arc::clone(&ends));
        std::thread::spawn(move || write(queue, &longest, &ends))
    };
    let (mut all, mut asked, mut pauses, mut usual) = (vec![], vec![], vec![], vec![]);
    let settle = Duration::from_millis(300);
    for number in 0..arguments.rounds.min(MOST) {
        std::thread::sleep(settle);
        longest.store(0, Ordering::Relaxed);
        std::thread::sleep(settle);
        usual.push(longest.swap(0, Ordering::Relaxed) as f64 / 1e6);
        let path = folder.path().join(format!("{number}.qcow2"));
        let overlay = format!("d0,path={}", path.display());
        let mut query = programs::bulkhead();
        asked.push(timed(query.args(["block", "query", served.name()]))?.value * 1e3);
        longest.store(0, Ordering::Relaxed);
        let mut snapshot = programs::bulkhead();
        snapshot.args(["block", "snapshot", served.name(), "--disk", &overlay]);
        all.push(timed(&mut snapshot)?.value * 1e3);
        pauses.push(longest.load(Ordering::Relaxed) as f64 / 1e6);
    }
    ends.store(true, Ordering::Relaxed);
    ensure!(matches!(writer.join(), Ok(Ok(()))), "a write failed");
    let told = format!(
        "{:.1} ms, of which a command that only asks takes {:.1} ms",
        median(&all),
        median(&asked)
    );
    bound(&format!("{EXTERNAL}: the command, start to end"), &told, "5 ms");
    let told = format!("{:.1} ms; {:.1} ms without", median(&pauses), median(&usual));
    bound(&format!("{EXTERNAL}: the guest's longest wait meanwhile"), &told, "5 ms");
    Ok(())
}

/// Keeps 32 random writes in flight; the longest time without a completion goes into `longest`, in ns.
fn write(mut queue: Queue, longest: &AtomicU64, ends: &AtomicBool) -> Result<()> {
    let data = vec![0x5a; 4096];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut submit = |queue: &mut Queue| -> Result<()> {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let sector = random % (SIZE / 4096) * (4096 / SECTOR);
        queue.submit(Request::Write { sector, data: &data }, &Layout::INDIRECT)?;
        Ok(())
    };
    for _ in 0..32 {
        submit(&mut queue)?;
    }
    queue.kick();
    let mut last = Instant::now();
    while queue.outstanding() > 0 {
        let done = queue.wait(Duration::from_secs(10))?;
        ensure!(done.is_some_and(|done| done.is_ok()), "{done:?}");
        let waited = u64::try_from(last.elapsed().as_nanos())?;
        longest.fetch_max(waited, Ordering::Relaxed);
        last = Instant::now();
        if !ends.load(Ordering::Relaxed) {
            submit(&mut queue)?;
            queue.kick();
        }
    }
    Ok(())
}

fn internal(arguments: &Arguments) -> Result<()> {
    let raw = image(&arguments.memory)?;
    let copy = || -> Result<tempfile::TempPath> {
        let path = tempfile::NamedTempFile::new_in(&arguments.memory)?.into_temp_path();
        let (from, to) = (text(raw.path()), text(&path));
        output(&mut command(&["qemu-img", "convert", "-f", "raw", "-O", "qcow2", from, to]))?;
        Ok(path)
    };
    let (theirs, ours) = (copy()?, copy()?);
    let (mut their, mut our) = (0, 0);
    let turns: &mut [Turn<'_>] = &mut [
        Box::new(|| {
            their += 1;
            let name = format!("s{their}");
            timed(&mut command(&["qemu-img", "snapshot", "-c", &name, text(&theirs)]))
        }),
        Box::new(|| {
            our += 1;
            let program = programs::folder().join("bulkhead-img");
            let mut command = command(&[text(&program), "snapshot", "-f", "qcow2"]);
            timed(command.args(["-c", &format!("s{our}"), text(&ours)]))
        }),
    ];
    let figures = take_turns(arguments.rounds, turns)?;
    let line = Line { what: INTERNAL, peer: "qemu-img", unit: Unit::Seconds, wanted: 1.0 };
    line.print(&figures[0], &figures[1]);
    Ok(())
}
