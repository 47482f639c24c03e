//! The real helpers, not a probe: each gets through its start to its seal in its real jail.

use bulkhead_isolation::{User, Warden, binaries, jailed, procfs};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_sys::pidfd::Death;

/// What each class needs to know before its plan.
fn arguments(class: ProcessClass) -> &'static [&'static str] {
    match class {
        ProcessClass::SoftCpu => &["8", "jit=off"],
        ProcessClass::SoftCpuJit => &["8", "jit=on"],
        ProcessClass::BlockTool => &["2"],
        ProcessClass::Core | ProcessClass::VhostBlk | ProcessClass::BlockLayer => &["16"],
        _ => &[],
    }
}

#[test]
fn every_helper_that_is_built_seals_itself_and_stops_when_it_is_told() {
    let mut tested = 0;
    for &user in User::all() {
        for class in jailed() {
            let Some(program) = binaries::find(&class.binary()) else {
                eprintln!("{} is not built: not tested", class.binary());
                continue;
            };
            let mut warden = Warden::new(user, &program, &[], Vec::new());
            let mut helper = warden.start(class, arguments(class)).expect("it starts");
            let report = helper.sealed();
            assert!(report.probe_refused && report.landlock_missing.is_empty(), "{class}");
            let filters = bulkhead_seccomp::program(class.name()).unwrap().stack().count();
            let status = procfs::status(helper.pid);
            assert_eq!(status["Seccomp_filters"], filters.to_string(), "{class}");
            let stopped = helper.stop();
            assert_eq!(stopped, Death::Exited(0), "{class}: {}", helper.last_words());
            tested += 1;
        }
    }
    println!("{tested} helpers");
}
