//! A host that lacks a layer: the layer is named and refused, or allowed by name and told.

use std::path::Path;
use std::process::Command;

use bulkhead_isolation::{User, Warden, binaries};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::launch::{LauncherEvent, Layer, LayerState};
use bulkhead_sys::pidfd::Death;

const NAMESPACES: [Layer; 7] = [
    Layer::UserNamespace,
    Layer::PidNamespace,
    Layer::MountNamespace,
    Layer::NetNamespace,
    Layer::IpcNamespace,
    Layer::UtsNamespace,
    Layer::CgroupNamespace,
];

/// A launcher on a host without `missing`, that may do without `weaker`.
fn warden(user: User, missing: Layer, weaker: &[Layer]) -> Warden {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isolation-outer"));
    command.arg(missing.name()).arg(binaries::program("bulkhead-launcher"));
    let probe = Path::new(env!("CARGO_BIN_EXE_isolation-probe"));
    Warden::with_command(command, user, probe, weaker, Vec::new())
}

#[test]
fn a_missing_namespace_is_refused_by_name() {
    for &user in User::all() {
        for missing in NAMESPACES {
            let mut warden = warden(user, missing, &[]);
            let failed = warden.start(ProcessClass::VhostRng, &[]).expect_err("it is refused");
            let LauncherEvent::Failed { layer, reason, pid, .. } = failed else {
                panic!("{failed:?}");
            };
            assert_eq!(layer, Some(missing), "{user:?}: {reason}");
            assert!(reason.contains("EPERM") || reason.contains("not permitted"), "{reason}");
            assert!(pid != 0, "a process came about, and was reaped");
        }
    }
}

#[test]
fn a_layer_that_may_be_missing_is_told_and_the_others_hold() {
    for missing in NAMESPACES {
        // Without a user namespace an ordinary user has none of the others either.
        let mut warden = warden(User::Same, missing, &[missing]);
        let mut inmate = warden.start(ProcessClass::VhostRng, &[]).expect("it starts");
        for (layer, state) in &inmate.layers {
            let is_weakened = matches!(state, LayerState::Weakened(why) if !why.is_empty());
            assert_eq!(is_weakened, *layer == missing, "without {missing:?}: {layer:?} {state:?}");
        }
        assert!(inmate.sealed().probe_refused);
        assert_eq!(inmate.stop(), Death::Exited(0), "{}", inmate.last_words());
    }
}

#[test]
fn an_ordinary_user_without_user_namespaces_has_to_do_without_all_of_them() {
    if User::all().len() == 1 {
        eprintln!("only root can be two users: not tested");
        return;
    }
    let mut warden = warden(User::Nobody, Layer::UserNamespace, &[Layer::UserNamespace]);
    let failed = warden.start(ProcessClass::VhostRng, &[]).expect_err("it is refused");
    let LauncherEvent::Failed { layer, .. } = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(layer, Some(Layer::PidNamespace));
}

#[test]
fn a_kernel_without_landlock_is_told_by_the_child() {
    let mut warden = warden(User::Same, Layer::Landlock, &[]);
    let mut inmate = warden.start(ProcessClass::VhostRng, &[]).expect("it starts");
    let report = inmate.sealed();
    assert_eq!(report.landlock_abi, 0);
    assert!(!report.probe_refused);
    assert!(report.landlock_missing.iter().any(|right| right == "ReadFile"), "{report:?}");
}
