//! The audit passes on what is as it should be, and fails on each thing that is not.
//!
//! The launcher is the real one; what it starts is a probe in a helper's place, which this test spoils
//! in one way at a time. A probe has no plan, so that "a descriptor is missing" is not held against it.

use std::fs::File;
use std::os::fd::AsFd;

use bulkhead_isolation::attempt::{Order, Told};
use bulkhead_isolation::{Ending, Inmate, User, Warden, binaries};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_report::audit::{Finding, Subject, Verdict, examine, examine_against, passes};

const CLASS: ProcessClass = ProcessClass::VhostRng;

fn inmate(user: User, how: &[&str]) -> (Warden, Inmate) {
    let mut warden = Warden::new(user, &binaries::program("isolation-probe"), &[], Vec::new());
    let mut inmate = warden.start(CLASS, how).expect("it starts");
    inmate.sealed();
    (warden, inmate)
}

fn subject(inmate: &Inmate, class: ProcessClass) -> Subject {
    let none = "no folder was passed".to_owned();
    Subject {
        class: class.name().to_owned(),
        id: "x0".into(),
        pid: inmate.pid,
        weakened: Vec::new(),
        not_applicable: vec![("cgroup".into(), none.clone()), ("own-uid".into(), none)],
    }
}

fn deviations(findings: &[Finding]) -> Vec<&Finding> {
    let unplanned = |finding: &&Finding| !finding.detail.starts_with("missing");
    let deviates = |finding: &&Finding| finding.verdict == Verdict::Deviation;
    findings.iter().filter(deviates).filter(unplanned).collect()
}

#[test]
fn a_sealed_process_is_as_declared_for_root_and_for_a_user() {
    for &user in User::all() {
        let (_warden, inmate) = inmate(user, &[]);
        let findings = examine(&subject(&inmate, CLASS)).unwrap();
        assert!(deviations(&findings).is_empty(), "{user:?}: {:#?}", deviations(&findings));
        let declared = findings.iter().filter(|one| one.verdict == Verdict::AsDeclared).count();
        assert!(declared >= 6, "{user:?}: something was seen: {findings:#?}");
    }
}

#[test]
fn a_descriptor_too_many_is_found() {
    let (_warden, mut inmate) = inmate(User::Same, &[]);
    let file = File::open("/etc/hostname").or_else(|_| File::open("/etc/passwd")).unwrap();
    let told = inmate.order(Order::Hold { fds: 1 }, &[file.as_fd()]);
    assert!(matches!(told, Ending::Told(Told::Reached(_))));
    let findings = examine(&subject(&inmate, CLASS)).unwrap();
    let found = deviations(&findings);
    assert!(found.iter().any(|one| one.check == "descriptors"), "{findings:#?}");
    assert!(!passes(&findings, true));
}

#[test]
fn a_process_without_its_filter_is_found() {
    let (_warden, inmate) = inmate(User::Same, &["no-filter"]);
    let findings = examine(&subject(&inmate, CLASS)).unwrap();
    let found = deviations(&findings);
    assert!(found.iter().any(|one| matches!(one.check, "filter" | "seccomp")), "{findings:#?}");
}

#[test]
fn a_filter_from_another_profile_is_found() {
    let mut warden =
        Warden::new(User::Same, &binaries::program("isolation-probe"), &[], Vec::new());
    let mut other = warden.start(ProcessClass::BlockLayer, &[]).expect("it starts");
    other.sealed();
    let findings = examine(&subject(&other, CLASS)).unwrap();
    let filter = findings.iter().find(|one| one.check == "filter").expect("it was asked");
    match filter.verdict {
        Verdict::NotObservable => eprintln!("skipped: only root sees another process's filters"),
        verdict => assert_eq!(verdict, Verdict::Deviation, "{findings:#?}"),
    }
}

#[test]
fn a_profile_that_was_changed_is_found() {
    let (_warden, inmate) = inmate(User::Same, &[]);
    let mut stricter = bulkhead_manifest::profile(CLASS.name()).unwrap();
    let limit = stricter.limit.iter_mut().find(|limit| limit.value > 0).expect("a limit");
    limit.value -= 1;
    let findings = examine_against(&subject(&inmate, CLASS), &stricter);
    let found = deviations(&findings);
    assert!(found.iter().any(|one| one.check == "limits"), "{findings:#?}");
}

#[test]
fn a_process_that_was_never_jailed_is_found() {
    let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
    let free = Subject {
        class: CLASS.name().to_owned(),
        id: String::new(),
        pid: i32::try_from(child.id()).unwrap(),
        weakened: Vec::new(),
        not_applicable: Vec::new(),
    };
    let findings = examine(&free).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    for check in ["seccomp", "no-new-privileges", "namespaces", "limits"] {
        assert!(
            deviations(&findings).iter().any(|one| one.check == check),
            "{check}: {findings:#?}"
        );
    }
    assert!(!passes(&findings, true));
}
