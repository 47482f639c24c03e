//! How long a jail takes to set up. Prints figures, asserts none.

use std::path::Path;
use std::time::Instant;

use bulkhead_isolation::cgroups::Folders;
use bulkhead_isolation::{User, Warden};
use bulkhead_protocol::class::ProcessClass;

#[test]
fn figures_of_two_hundred_starts() {
    let folders = Folders::make("timing");
    for (user, groups) in
        [(User::Same, vec![]), (User::Same, folders.plan()), (User::Nobody, vec![])]
    {
        let with = groups.len();
        let mut warden =
            Warden::new(user, Path::new(env!("CARGO_BIN_EXE_isolation-probe")), &[], groups);
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
