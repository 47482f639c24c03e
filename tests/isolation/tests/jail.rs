//! A probe in the jail of each class, looked at from outside.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use bulkhead_isolation::cgroups::Folders;
use bulkhead_isolation::{User, Warden, jailed, procfs};
use bulkhead_manifest::{Namespace, profile};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::launch::{Layer, LayerState};
use bulkhead_sys::pidfd::Death;

fn probe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_isolation-probe"))
}

/// Runs `look` on a sealed process of each class, started by each kind of user.
fn every(mut look: impl FnMut(User, ProcessClass, &bulkhead_isolation::Inmate)) {
    for &user in User::all() {
        let mut warden = Warden::new(user, probe(), &[], Vec::new());
        for class in jailed() {
            let mut inmate = warden.start(class, &[]).expect("it starts");
            let report = inmate.sealed();
            assert!(report.probe_refused && report.landlock_abi > 0, "{class}: {report:?}");
            look(user, class, &inmate);
            assert_eq!(inmate.stop(), Death::Exited(0), "{class}: {}", inmate.last_words());
        }
    }
}

#[test]
fn every_layer_is_in_force_or_says_why_it_cannot_be() {
    every(|user, class, inmate| {
        assert_eq!(inmate.layers.len(), 12, "{class}");
        for (layer, state) in &inmate.layers {
            let conditional = match layer {
                Layer::Cgroup => true,
                Layer::OwnUid => user == User::Nobody,
                _ => false,
            };
            let fine = match state {
                LayerState::Enforced => true,
                LayerState::NotApplicable(why) => conditional && !why.is_empty(),
                LayerState::Weakened(_) => false,
            };
            assert!(fine, "{user:?} {class}: {layer:?} {state:?}");
        }
    });
}

#[test]
fn it_has_no_capability_no_group_and_no_way_to_more() {
    every(|_, class, inmate| {
        let status = procfs::status(inmate.pid);
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{class} {set}");
        }
        assert_eq!(status["NoNewPrivs"], "1", "{class}");
        assert_eq!(status["Groups"], "", "{class}");
        assert_eq!(status["Seccomp"], "2", "{class}");
    });
}

#[test]
fn it_is_under_its_own_filters_and_its_launchers() {
    every(|_, class, inmate| {
        let filters = bulkhead_seccomp::program(class.name()).unwrap().stack().count();
        let status = procfs::status(inmate.pid);
        assert_eq!(status["Seccomp_filters"], filters.to_string(), "{class}");
    });
}

#[test]
fn all_seven_namespaces_are_its_own() {
    every(|user, class, inmate| {
        for namespace in Namespace::ALL {
            let name = format!("ns/{}", namespace.proc_name());
            let (theirs, ours) = (procfs::link(inmate.pid, &name), procfs::link(0, &name));
            assert_ne!(theirs, ours, "{user:?} {class}");
        }
        let ids = procfs::status(inmate.pid)["NSpid"].clone();
        assert!(ids.ends_with("\t1"), "{class} is number 1: {ids}");
    });
}

#[test]
fn root_gives_each_a_uid_of_its_own_and_a_user_cannot() {
    let mut uids = BTreeSet::new();
    every(|user, class, inmate| {
        let status = procfs::status(inmate.pid);
        for field in ["Uid", "Gid"] {
            let ids: BTreeSet<&str> = status[field].split_whitespace().collect();
            assert_eq!(ids, BTreeSet::from([inmate.uid.to_string().as_str()]), "{class} {field}");
        }
        match user {
            User::Same if procfs::is_root() => {
                assert!(inmate.uid >= 0x7000_0000, "{class}");
                assert!(uids.insert(inmate.uid), "{class} shares its uid");
            }
            User::Same => {}
            User::Nobody => assert_eq!(inmate.uid, 65534, "{class}"),
        }
    });
}

#[test]
fn it_holds_four_descriptors_when_it_is_sealed() {
    every(|_, class, inmate| {
        let held = procfs::descriptors(inmate.pid);
        let kinds: Vec<&str> = held.values().map(|to| to.split(':').next().unwrap()).collect();
        assert_eq!(kinds, ["/dev/null", "/dev/null", "pipe", "socket"], "{class}: {held:?}");
        assert!(held.keys().copied().eq(0..4), "{class}");
    });
}

#[test]
fn its_root_is_empty_read_only_and_the_only_mount() {
    every(|_, class, inmate| {
        let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", inmate.pid)).unwrap();
        assert_eq!(mounts.lines().count(), 1, "{class}: {mounts}");
        assert!(mounts.contains(" / / ro,nosuid,nodev,noexec"), "{class}: {mounts}");
        let inside = std::fs::read_dir(format!("/proc/{}/root/", inmate.pid)).unwrap();
        assert_eq!(inside.count(), 0, "{class}");
        assert_eq!(procfs::link(inmate.pid, "cwd"), "/", "{class}");
    });
}

#[test]
fn its_limits_are_those_of_its_profile() {
    every(|_, class, inmate| {
        for limit in profile(class.name()).unwrap().limit {
            let found = procfs::limit(inmate.pid, limit.resource.proc_name());
            let (soft, hard) = found.expect("the limit is shown");
            assert_eq!(soft, hard, "{class} {:?}", limit.resource);
            assert!(soft <= limit.value, "{class} {:?}: {soft}", limit.resource);
            // The tests' own hard limit may be lower; most are not.
            let ours = procfs::limit(std::process::id() as i32, limit.resource.proc_name());
            assert_eq!(soft, limit.value.min(ours.unwrap().1), "{class} {:?}", limit.resource);
        }
    });
}

#[test]
fn the_user_who_started_it_can_list_its_descriptors() {
    if !procfs::is_root() {
        eprintln!("only root can be two users: not tested");
        return;
    }
    let mut warden = Warden::new(User::Nobody, probe(), &[], Vec::new());
    let mut inmate = warden.start(ProcessClass::Sink, &[]).unwrap();
    inmate.sealed();
    let look = |id: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", id, "--regid", id, "--clear-groups", "ls"]);
        command.arg(format!("/proc/{}/fd", inmate.pid)).output().unwrap()
    };
    let owner = look("65534");
    assert_eq!(owner.stdout, b"0\n1\n2\n3\n", "{owner:?}");
    assert!(!look("65533").status.success());
}

#[test]
fn a_hundred_starts_have_a_hundred_addresses() {
    let mut warden = Warden::new(User::Same, probe(), &[], Vec::new());
    let mut bases = BTreeSet::new();
    for _ in 0..100 {
        let mut inmate = warden.start(ProcessClass::VhostRng, &[]).unwrap();
        inmate.sealed();
        bases.insert(procfs::text_base(inmate.pid));
    }
    assert_eq!(bases.len(), 100);
}

#[test]
fn it_dies_with_the_process_that_started_its_launcher() {
    // A process between, whose end is watched: it starts the launcher and is killed.
    let mut between = Command::new(std::env::current_exe().unwrap());
    between.args(["--exact", "warden_to_be_killed", "--ignored", "--nocapture"]);
    let mut between = between.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let out = between.stdout.take().unwrap();
    let pid = std::io::BufRead::lines(std::io::BufReader::new(out))
        .map_while(Result::ok)
        .find_map(|line| line.split("inmate ").nth(1)?.trim().parse::<i32>().ok())
        .expect("it tells the pid");
    let pidfd = bulkhead_sys::pidfd::PidFd::open(pid).expect("it lives");
    between.kill().unwrap();
    between.wait().unwrap();
    let deadline = bulkhead_sys::clock::Deadline::after(std::time::Duration::from_secs(30));
    pidfd.wait_dead(deadline).expect("it is dead");
}

#[test]
#[ignore = "the other half of it_dies_with_the_process_that_started_its_launcher"]
fn warden_to_be_killed() {
    let mut warden = Warden::new(User::Same, probe(), &[], Vec::new());
    let mut inmate = warden.start(ProcessClass::VhostBlk, &[]).unwrap();
    inmate.sealed();
    println!("inmate {}", inmate.pid);
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn a_panic_is_an_exit_with_last_words_and_no_security_event() {
    let mut warden = Warden::new(User::Same, probe(), &[], Vec::new());
    for class in jailed() {
        let mut inmate = warden.start(class, &["panic"]).unwrap();
        inmate.sealed();
        assert_eq!(inmate.end(), Death::Exited(101), "{class}");
        let words = inmate.last_words();
        let begin = format!("{class}: panic: told to at tests/isolation/src/bin/probe/main.rs:");
        assert!(words.starts_with(&begin), "{words}");
        assert_eq!(words.lines().count(), 1);
    }
}

#[test]
fn its_control_groups_have_the_budget_of_its_profile_and_go_with_it() {
    let folders = Folders::make("jail");
    if !folders.has("pids") {
        eprintln!("no control group can be made here: not tested");
        return;
    }
    let mut warden = Warden::new(User::Same, probe(), &[], folders.plan());
    for class in jailed() {
        let mut inmate = warden.start(class, &[]).unwrap();
        let budget = profile(class.name()).unwrap().cgroup;
        let state = inmate.layers.iter().find(|(layer, _)| *layer == Layer::Cgroup).unwrap();
        let whole = folders.has("memory") && folders.has("cpu");
        assert!(!whole || state.1 == LayerState::Enforced, "{class}: {state:?}");
        let tasks: Vec<String> = budget.pids.map(|count| count.to_string()).into_iter().collect();
        assert_eq!(folders.read("pids.max"), tasks, "{class}");
        if folders.has("memory") && folders.version() == 1 {
            let bytes: Vec<_> = budget.memory.map(|bytes| bytes.to_string()).into_iter().collect();
            assert_eq!(folders.read("memory.limit_in_bytes"), bytes, "{class}");
        }
        let members = folders.read("cgroup.procs");
        assert!(members.iter().all(|text| *text == inmate.pid.to_string()), "{class} {members:?}");
        assert!(!members.is_empty(), "{class}");
        inmate.stop();
        warden.forget(inmate.ticket);
        // The launcher answers in order: once it has started another, it has forgotten this one.
        let mut next = warden.start(ProcessClass::Core, &[]).unwrap();
        next.stop();
        warden.forget(next.ticket);
        assert!(folders.cells() <= folders.plan().len(), "{class}");
    }
    drop(warden);
    assert_eq!(folders.cells(), 0);
}

#[test]
fn the_launcher_is_sealed_and_keeps_three_capabilities_of_root() {
    for &user in User::all() {
        let warden = Warden::new(user, probe(), &[], Vec::new());
        let status = procfs::status(warden.launcher_pid());
        assert_eq!(status["Seccomp"], "2");
        assert_eq!(status["NoNewPrivs"], "1");
        assert_eq!(status["Threads"], "1");
        let kept = u64::from_str_radix(&status["CapEff"], 16).unwrap();
        let id_maps = 1 << 6 | 1 << 7 | 1 << 31;
        assert_eq!(kept & !id_maps, 0, "{user:?}: {kept:#x}");
        assert_eq!(status["CapPrm"], status["CapEff"]);
    }
}
