use super::*;

fn subject(class: &str) -> Subject {
    Subject {
        class: class.to_owned(),
        id: String::new(),
        pid: i32::try_from(std::process::id()).unwrap(),
        weakened: Vec::new(),
        not_applicable: Vec::new(),
    }
}

#[test]
fn an_unconfined_process_deviates_in_every_layer() {
    // This very test process, said to be a device process.
    let findings = examine(&subject("vhost-rng")).unwrap();
    let deviates = |check: &str| {
        findings
            .iter()
            .any(|finding| finding.check == check && finding.verdict == Verdict::Deviation)
    };
    for check in ["seccomp", "no-new-privileges", "namespaces", "descriptors", "limits"] {
        assert!(deviates(check), "{check}: {findings:#?}");
    }
    assert!(!passes(&findings, true));
}

#[test]
fn a_process_that_is_gone_deviates() {
    let gone = Subject { pid: i32::MAX, ..subject("vhost-rng") };
    assert!(!passes(&examine(&gone).unwrap(), true));
}

#[test]
fn a_weakened_layer_passes_only_where_that_is_accepted() {
    let finding = Finding {
        role: "vhost-rng".into(),
        id: String::new(),
        pid: 1,
        check: "layer",
        verdict: Verdict::Weakened,
        detail: "landlock".into(),
    };
    assert!(!passes(std::slice::from_ref(&finding), false));
    assert!(passes(&[finding], true));
}

#[test]
fn nothing_found_is_no_pass() {
    assert!(!passes(&[], true));
}

#[test]
fn an_unknown_class_is_an_error() {
    assert!(examine(&subject("no-such-class")).is_err());
}
