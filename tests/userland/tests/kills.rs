//! Death under the software CPU: a device's process is replaced while the guest writes and reads, and
//! the guest notices nothing; the software CPU's own death is the guest's, told of once.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bulkhead_harness::storage::Process;
use bulkhead_harness::{engine, programs};
use bulkhead_userland::Guest;
use nix::sys::signal::Signal;

/// How often all processes of the disks are killed in each of three ways.
const ROUNDS: u64 = 2;

/// Looks at the processes until they are as wanted; the guest's own clock decides nothing here.
const LOOKS: u32 = 6000;

fn of(processes: &[Process], roles: &[&str]) -> Vec<Process> {
    processes.iter().filter(|process| roles.contains(&process.role.as_str())).cloned().collect()
}

/// Kills all processes of these classes at once, and waits until each has a successor that serves.
fn kill_and_wait(guest: &Guest, roles: &[&str]) {
    let victims = of(&guest.processes(), roles);
    assert!(victims.len() >= roles.len(), "{victims:?}");
    for victim in &victims {
        assert!(victim.signal(Signal::SIGKILL), "{victim:?}");
    }
    for _ in 0..LOOKS {
        let now = of(&guest.processes(), roles);
        let back = victims.iter().all(|victim| {
            now.iter().any(|process| {
                (&process.role, &process.id) == (&victim.role, &victim.id)
                    && process.restarts > victim.restarts
                    && process.state == "running"
            })
        });
        if back {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no successors of {victims:?}: {:?}", guest.processes());
}

fn writer(cpus: u32) -> Option<Guest> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/under-kills");
    Some(Guest::new(cpus)?.with_second_disk(&folder))
}

fn devices_die_unnoticed(cpus: u32) {
    let Some(guest) = writer(cpus) else { return };
    let mut console = guest.start_second_disk();
    console.wait_for("under-kills: writing");
    for _ in 0..ROUNDS {
        kill_and_wait(&guest, &["vhost-blk"]);
        kill_and_wait(&guest, &["block-layer"]);
        kill_and_wait(&guest, &["vhost-blk", "block-layer"]);
    }
    kill_and_wait(&guest, &["vhost-rng"]);
    for process in of(&guest.processes(), &["vhost-blk", "block-layer"]) {
        assert_eq!(process.restarts, 2 * ROUNDS, "{process:?}");
    }
    console.say("enough");
    let (code, said) = console.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("rounds, all right") && said.contains("second-disk: exit 0"), "{said}");
    guest.assert_disks_are_clean();
}

#[test]
fn devices_die_unnoticed_on_one_cpu() {
    devices_die_unnoticed(1);
}

#[test]
fn devices_die_unnoticed_on_four_cpus() {
    devices_die_unnoticed(4);
}

#[test]
fn the_death_of_the_software_cpu_ends_the_vm_with_one_event() {
    let Some(guest) = writer(2) else { return };
    let mut console = guest.start_second_disk();
    console.wait_for("under-kills: writing");
    let mut listener = programs::bulkhead();
    let listener = listener.args(["events", guest.name()]).stdout(Stdio::piped()).spawn();
    let mut listener = listener.expect("bulkhead starts");
    let lines = BufReader::new(listener.stdout.take().expect("a pipe")).lines();
    let engines = of(&guest.processes(), &[engine::class()]);
    assert!(engines.len() == 1 && engines[0].signal(Signal::SIGKILL), "{engines:?}");
    let (code, said) = console.end();
    assert_eq!(code, Some(1), "{said}");
    let events: Vec<String> = lines.map_while(Result::ok).collect();
    let death = format!("{} died: SIGKILL", engine::class());
    let deaths: Vec<_> = events.iter().filter(|event| event.contains(engine::class())).collect();
    assert!(deaths.len() == 1 && deaths[0].contains(&death), "{events:#?}");
    assert!(listener.wait().expect("a status").code().is_some());
}
