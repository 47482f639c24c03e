//! Each call of each file fails once, in each job: no byte is lost, no image has an error, and whoever
//! depended on the call is told.

use super::crash::{KINDS, begin};
use super::rig::*;
use crate::disk::DiskEvent;
use crate::job::*;
use crate::outcome::Failure;
use crate::storage::memory::Call;
use crate::task::Tasks;

/// Places at which a kind of call fails, of each file and in each job, with the other tests;
/// `BULKHEAD_FAULTS` sets another number.
const FEW: u64 = 2;

fn places() -> u64 {
    let given = std::env::var("BULKHEAD_FAULTS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(FEW)
}

/// ENOSPC, EIO, EMFILE, ENOMEM.
const FAILURES: [Failure; 4] = [Failure::NO_SPACE, Failure::IO, Failure::of(24), Failure::of(12)];

/// Calls that are let through before one fails: every one of the first, then ever fewer.
fn place(number: u64, salt: u64) -> u64 {
    number * number / 2 + salt % (number + 1)
}

/// What one fault came to.
struct Played {
    /// The call was made, and failed.
    hit: bool,
    ended: Result<(), Ended>,
    told: Vec<Failure>,
    /// The operator was told.
    told_of: bool,
}

fn play(kind: &str, file: &str, call: Call, after: u64, failure: Failure, seed: u64) -> Played {
    let name = format!("{kind}, {call:?} {after} of {file} fails by {}, {seed}", failure.errno());
    let (mut rig, control, target) = begin(kind, seed, true);
    let links = rig.supervisor.record.0.borrow().clone();
    let link = match file {
        "top" => links.first(),
        "middle" => links.get(1),
        "base" => links.last(),
        _ => target.as_ref(),
    };
    let Some(link) = link.cloned() else {
        return Played { hit: false, ended: Ok(()), told: Vec::new(), told_of: false };
    };
    link.file.fail_once(call, after, failure);
    let mut steps = 0;
    while rig.tasks.running() > 0 {
        assert!(rig.step(), "{name}: {} tasks wait for each other", rig.tasks.running());
        steps += 1;
        assert!(steps < 4_000_000, "{name}: it never ends: {:?}", control.status());
    }
    let hit = !link.file.is_spared();
    link.file.heal();
    let told = rig.complaints.take();
    let waited = rig.disk.events().iter().any(|event| matches!(event, DiskEvent::Failed { .. }));
    let job_told = control.events().iter().any(|event| matches!(event, JobEvent::Failed { .. }));
    rig.verify_bytes(&read(&rig.disk.top()), &name);
    // What the process leaves, a successor takes over.
    rig.tasks = Tasks::default();
    let links = rig.supervisor.record.0.borrow().clone();
    let top = open_chain(&links, &Registry::default());
    rig.verify_bytes(&read(&top), &format!("{name}, by a successor"));
    assert_eq!(crate::task::finish(top.close()), Ok(()), "{name}: closed by a successor");
    drop(top);
    rig.verify_bytes(&read(&open_read_only(&links)), &format!("{name}, without journals"));
    for link in &links {
        check(&link.file.bytes(), link.raw, &name);
    }
    if kind == "backup"
        && ended(&control) == Ok(())
        && let Some(target) = target
    {
        check(&target.file.bytes(), target.raw, &name);
    }
    let told_of = job_told || waited;
    Played { hit, ended: ended(&control), told, told_of }
}

#[test]
fn each_call_that_fails_once_loses_nothing_and_is_told_of() {
    let (mut hits, mut failed, mut salt) = (0, 0, 0);
    for kind in KINDS {
        for file in ["top", "middle", "base", "target"] {
            for call in Call::ALL {
                for number in 0..places() {
                    for (index, failure) in FAILURES.into_iter().enumerate() {
                        salt += 7;
                        if places() == FEW && index as u64 != (salt / 7 / 4 + number) % 4 {
                            continue;
                        }
                        let after = place(number, salt);
                        let played = play(kind, file, call, after, failure, salt % 8);
                        hits += u64::from(played.hit);
                        let name = format!("{kind}, {call:?} {after} of {file}, {failure}");
                        judge(&played, call, failure, &name);
                        failed += u64::from(played.ended.is_err());
                    }
                }
            }
        }
    }
    println!("{hits} calls failed, {failed} jobs ended by it");
    assert!(hits > 80 && failed > 16, "{hits} calls failed, {failed} jobs ended by it");
}

/// The right status: a job ends by the failure that it met or not at all, and a guest is told no other.
fn judge(played: &Played, call: Call, failure: Failure, name: &str) {
    let Played { hit, ended, told, told_of } = played;
    if !hit {
        assert_eq!((ended, told.len(), *told_of), (&Ok(()), 0, false), "{name}: nothing failed");
        return;
    }
    let known = |told: &Failure| *told == failure || *told == Failure::IO;
    if let Err(ended) = ended {
        assert!(matches!(ended, Ended::Failed(told) if known(told)), "{name}: {ended:?}");
    }
    assert!(told.iter().all(known), "{name}: the guest was told {told:?}");
    let is_unheard = ended.is_ok() && told.is_empty() && !told_of;
    if std::env::var_os("BULKHEAD_FAULTS_SHOWN").is_some() {
        println!("{name}: {ended:?}, guest {told:?}, operator {told_of}, unheard {is_unheard}");
    }
    let _ = call;
}
