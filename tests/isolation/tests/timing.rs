//! How long a jail takes to set up. Prints figures, asserts none.

use std::path::Path;
use std::time::Instant;

use bulkhead_isolation::attempt::{Order, Told};
use bulkhead_isolation::cgroups::Folders;
use bulkhead_isolation::{Ending, User, Warden};
use bulkhead_protocol::class::ProcessClass;

fn probe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_isolation-probe"))
}

#[test]
#[ignore = "figures, to be asked for on a quiet machine"]
fn figures_of_two_hundred_starts() {
    let folders = Folders::make("timing");
    for (user, groups) in
        [(User::Same, vec![]), (User::Same, folders.plan()), (User::Nobody, vec![])]
    {
        let with = groups.len();
        let mut warden = Warden::new(user, probe(), &[], groups);
        let mut jailed = Vec::new();
        let mut sealed = Vec::new();
        for _ in 0..200 {
            let begin = Instant::now();
            let mut inmate = warden.start(ProcessClass::VhostBlk, &[]).unwrap();
            jailed.push(begin.elapsed());
            inmate.sealed();
            sealed.push(begin.elapsed());
            inmate.stop();
            warden.forget(inmate.ticket);
        }
        for (what, times) in [("in its jail", &mut jailed), ("sealed", &mut sealed)] {
            times.sort();
            println!(
                "{user:?}, {with} cgroup hierarchies: {what}: p50 {:?}, p99 {:?}, max {:?}",
                times[100], times[198], times[199]
            );
        }
    }
}

#[test]
#[ignore = "figures, to be asked for on a quiet machine"]
fn figures_of_six_at_once() {
    let six = [
        ProcessClass::Core,
        ProcessClass::Control,
        ProcessClass::BlockLayer,
        ProcessClass::VhostBlk,
        ProcessClass::VhostConsole,
        ProcessClass::VhostRng,
    ];
    let folders = Folders::make("six");
    for &user in User::all() {
        let groups = if user == User::Same { folders.plan() } else { Vec::new() };
        let mut warden = Warden::new(user, probe(), &[], groups);
        let mut times = Vec::new();
        for _ in 0..50 {
            let begin = Instant::now();
            let mut inmates: Vec<_> =
                warden.start_all(&six).into_iter().map(Result::unwrap).collect();
            inmates.iter_mut().for_each(|inmate| drop(inmate.sealed()));
            times.push(begin.elapsed());
            for mut inmate in inmates {
                inmate.stop();
                warden.forget(inmate.ticket);
            }
        }
        times.sort();
        println!("{user:?}: six sealed: p50 {:?}, max {:?}", times[25], times[49]);
    }
}

/// Calls with bad descriptors and pointers, which cost little but the filters.
const CALLS: [(ProcessClass, &str, u64, [u64; 6]); 6] = [
    (ProcessClass::VhostBlk, "read, unfiltered", 0, [u64::MAX; 6]),
    (ProcessClass::VhostBlk, "futex wake", 202, [!3, 129, 0, 0, 0, 0]),
    (ProcessClass::VhostBlk, "recvmsg", 47, [u64::MAX, 0, 0x4000_0040, 0, 0, 0]),
    (ProcessClass::VhostBlk, "sendmsg", 46, [u64::MAX, 0, 0x4040, 0, 0, 0]),
    (ProcessClass::Core, "ioctl KVM_RUN", 16, [u64::MAX, 0xae80, 0, 0, 0, 0]),
    (ProcessClass::Core, "ioctl KVM_IRQFD", 16, [u64::MAX, 0x4020_ae76, 0, 0, 0, 0]),
];

#[test]
#[ignore = "figures, to be asked for on a quiet machine"]
fn figures_of_filtered_calls() {
    let mut warden = Warden::new(User::Same, probe(), &[], Vec::new());
    for (class, name, number, arguments) in CALLS {
        let mut inmate = warden.start(class, &[]).unwrap();
        inmate.sealed();
        let order = Order::Cost { number, arguments, times: 1_000_000 };
        let Ending::Told(Told::Reached(bytes)) = inmate.order(order, &[]) else {
            panic!("{name} is not let through");
        };
        let picoseconds = u64::from_le_bytes(bytes.try_into().unwrap());
        println!("{class}: {name}: {} ns", picoseconds as f64 / 1000.0);
    }
}
