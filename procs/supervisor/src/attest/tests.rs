use super::*;

const LAYERS: [(Layer, LayerState); 1] = [(Layer::Capabilities, LayerState::Enforced)];

fn expected<'a>(weaker: &'a [Layer]) -> Expected<'a> {
    Expected {
        class: ProcessClass::VhostRng,
        given: Given { channel: 3, log: 2 },
        layers: &LAYERS,
        weaker,
    }
}

fn report() -> SealReport {
    SealReport { version: VERSION, landlock_abi: 7, landlock_missing: vec![], probe_refused: true }
}

fn sealed() -> String {
    let caps = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
    let caps: String = caps.map(|cap| format!("{cap}:\t0000000000000000\n")).concat();
    format!("Name:\tx\nTracerPid:\t0\n{caps}NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n")
}

#[test]
fn a_sealed_process_is_what_it_must_be() {
    status::check(&sealed(), 3, &expected(&[])).unwrap();
    check_report(&report(), &expected(&[])).unwrap();
}

#[test]
fn every_deviation_of_the_status_is_found() {
    for (good, bad) in [
        ("Seccomp:\t2", "Seccomp:\t0"),
        ("Seccomp:\t2", "Seccomp:\t1"),
        ("Seccomp_filters:\t3", "Seccomp_filters:\t2"),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
        ("CapEff:\t0000000000000000", "CapEff:\t0000000000000001"),
        ("CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff"),
        ("CapAmb:\t0000000000000000\n", ""),
        ("TracerPid:\t0", "TracerPid:\t77"),
    ] {
        let text = sealed().replace(good, bad);
        assert_ne!(text, sealed());
        let fault = status::check(&text, 3, &expected(&[])).unwrap_err();
        assert!(matches!(fault, Fault::Deviation(_)), "{bad}");
    }
}

#[test]
fn what_the_user_allowed_to_be_missing_may_be_missing() {
    let text = sealed().replace("NoNewPrivs:\t1", "NoNewPrivs:\t0");
    status::check(&text, 3, &expected(&[Layer::NoNewPrivileges])).unwrap();
    let mut report = report();
    report.landlock_abi = 0;
    check_report(&report, &expected(&[Layer::Landlock])).unwrap();
    let fault = check_report(&report, &expected(&[])).unwrap_err();
    assert!(matches!(fault, Fault::Missing { layer: Layer::Landlock, .. }));
}

#[test]
fn a_landlock_that_denies_nothing_is_none() {
    let mut report = report();
    report.probe_refused = false;
    assert!(check_report(&report, &expected(&[Layer::Landlock])).is_err());
}

#[test]
fn a_weakened_layer_is_named_unless_it_was_allowed() {
    let layers = [(Layer::NetNamespace, LayerState::Weakened("EPERM".into()))];
    let mut expected = expected(&[]);
    expected.layers = &layers;
    let fault = check_layers(&expected).unwrap_err();
    assert_eq!(fault.to_string(), "net-namespace: EPERM");
    expected.weaker = &[Layer::NetNamespace];
    check_layers(&expected).unwrap();
}

/// A child in our own namespaces with all our privileges: the opposite of a helper.
#[test]
fn an_unjailed_process_is_refused() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let proc = Proc::open().unwrap();
    let fault = proc.attest(child.id() as i32, &report(), &expected(&[])).unwrap_err();
    assert!(matches!(fault, Fault::Deviation(_)), "{fault}");
    let every = Layer::ALL;
    let fault = proc.attest(child.id() as i32, &report(), &expected(&every)).unwrap_err();
    assert!(fault.to_string().contains("namespace is ours"), "{fault}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_load_of_a_busy_process_grows_and_that_of_a_sleeper_does_not() {
    let proc = Proc::open().unwrap();
    let spawn = |command: &str| {
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", command]).spawn().unwrap()
    };
    let (mut busy, mut idle) = (spawn("while :; do :; done"), spawn("exec sleep 60"));
    let grown = |pid: u32| proc.load(pid as i32).unwrap();
    while grown(busy.id()).used < Duration::from_millis(30) {
        std::thread::yield_now();
    }
    assert!(grown(busy.id()).runnable);
    assert!(!grown(idle.id()).runnable);
    for child in [&mut busy, &mut idle] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_name_full_of_parentheses_confuses_nobody() {
    let stat = "7 (a) R (b) S 1 2 3 4 5 6 7 8 9 10 11 22 33 0";
    assert_eq!(status::state_and_ticks(stat), Some(('S', 33)));
}
