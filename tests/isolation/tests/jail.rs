//! A probe in the jail of each class, looked at from outside.

use bulkhead_isolation::{Inmate, User, Warden, binaries, procfs};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_sys::pidfd::Death;
use std::path::Path;

fn probe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_isolation-probe"))
}

/// Classes that a launcher starts.
fn jailed() -> impl Iterator<Item = ProcessClass> {
    let free = [ProcessClass::Supervisor, ProcessClass::Launcher];
    ProcessClass::ALL.into_iter().filter(move |class| !free.contains(class))
}

#[test]
fn a_first_look() {
    for user in [User::Same, User::Nobody] {
        let mut warden = Warden::new(user, probe(), &[], Vec::new());
        for class in jailed() {
            let mut inmate = match warden.start(class, &[]) {
                Ok(inmate) => inmate,
                Err(event) => panic!("{event:?}"),
            };
            println!("{class} {:?} {:?}", inmate.uid, inmate.layers);
            let report = inmate.sealed();
            println!("{report:?}");
            for (k, v) in procfs::status(inmate.pid) {
                if [
                    "Uid",
                    "Gid",
                    "Groups",
                    "CapEff",
                    "CapBnd",
                    "CapPrm",
                    "CapInh",
                    "CapAmb",
                    "NoNewPrivs",
                    "Seccomp",
                    "Seccomp_filters",
                    "NSpid",
                    "Threads",
                    "VmRSS",
                    "State",
                ]
                .contains(&k.as_str())
                {
                    println!("   {k}: {v}");
                }
            }
            println!("{:?}", procfs::descriptors(inmate.pid));
            println!(
                "{}",
                std::fs::read_to_string(format!("/proc/{}/limits", inmate.pid)).unwrap()
            );
            println!(
                "{}",
                std::fs::read_to_string(format!("/proc/{}/smaps_rollup", inmate.pid)).unwrap()
            );
            println!(
                "{}",
                std::fs::read_to_string(format!("/proc/{}/mountinfo", inmate.pid)).unwrap()
            );
            assert_eq!(inmate.stop(), Death::Exited(0), "{}", inmate.last_words());
        }
    }
}
