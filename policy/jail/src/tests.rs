//! The parts of a jail that need no process. Whole jails are tested in `tests/isolation`.

use std::collections::BTreeSet;

use bulkhead_manifest::{CLASSES, profile};

use crate::cgroup::{Cell, Hierarchy};
use crate::record::{Record, Step};
use crate::{Layer, LayerState, budget, own_uid};

#[test]
fn a_record_arrives_as_it_was_sent() {
    for layer in Layer::ALL.into_iter().map(Some).chain([None]) {
        for fatal in [true, false] {
            let sent = Record { layer, step: Step::Pivot, fatal, errno: 38 };
            assert_eq!(Record::decode(&sent.encode()), Some(sent));
        }
    }
}

#[test]
fn bytes_that_are_no_record_are_none() {
    let record = Record { layer: None, step: Step::Exec, fatal: true, errno: 2 }.encode();
    assert_eq!(Record::decode(&record[..7]), None);
    assert_eq!(Record::decode(&[]), None);
    let mut strange = record;
    strange[0] = 100;
    assert_eq!(Record::decode(&strange), None);
    strange = record;
    strange[1] = 100;
    assert_eq!(Record::decode(&strange), None);
}

#[test]
fn a_record_speaks_of_its_step_and_the_kernels_answer() {
    let record =
        Record { layer: Some(Layer::NetNamespace), step: Step::Unshare, fatal: true, errno: 1 };
    assert_eq!(record.to_string(), "unshare: Operation not permitted (os error 1)");
}

#[test]
fn processes_of_one_launcher_and_of_two_have_different_uids() {
    let mut seen = BTreeSet::new();
    for launcher in [1, 2, 4_194_303] {
        for ordinal in 0..64 {
            let uid = own_uid(launcher, ordinal);
            assert!((0x7000_0000..0x8000_0000).contains(&uid), "{uid:#x}");
            assert!(seen.insert(uid), "{launcher} {ordinal}");
        }
    }
}

#[test]
fn every_class_has_the_budget_of_its_profile() {
    for class in CLASSES {
        let (built, manifest) = (budget(class).unwrap(), profile(class).unwrap());
        assert_eq!(built.limits.len(), manifest.limit.len(), "{class}");
        for ((_, value), limit) in built.limits.iter().zip(&manifest.limit) {
            assert_eq!(*value, limit.value, "{class}");
        }
        assert_eq!(built.pids, manifest.cgroup.pids, "{class}");
        assert_eq!(built.memory, manifest.cgroup.memory, "{class}");
        assert_eq!(built.cpu_percent, manifest.cgroup.cpu_percent, "{class}");
    }
}

#[test]
fn without_a_folder_the_layer_says_why() {
    let (cell, state) = Cell::make(&[], "x", budget("control").unwrap());
    assert!(matches!(state, LayerState::NotApplicable(why) if why.contains("delegated")));
    cell.join(&[], 1).unwrap();
    cell.remove(&[]);
}

/// A folder of a hierarchy that is none: an ordinary directory.
fn hierarchy(version: u8, controllers: &[&str], name: &str) -> (std::path::PathBuf, Hierarchy) {
    let path = std::env::temp_dir().join(format!("bulkhead-{name}-{}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    let folder = std::fs::File::open(&path).unwrap().into();
    let controllers = controllers.iter().map(|&c| c.to_owned()).collect();
    (path, Hierarchy { version, controllers, folder })
}

#[test]
fn a_cell_that_cannot_be_limited_is_removed_and_told() {
    // In an ordinary directory the files of a control group are missing.
    let (path, hierarchy) = hierarchy(2, &["pids", "memory"], "cell");
    let hierarchies = [hierarchy];
    let (cell, state) = Cell::make(&hierarchies, "x", budget("control").unwrap());
    assert!(matches!(&state, LayerState::NotApplicable(why) if why.starts_with("pids,memory: ")));
    assert!(!path.join("x").exists());
    cell.remove(&hierarchies);
    std::fs::remove_dir(path).unwrap();
}

#[test]
fn a_controller_that_no_hierarchy_has_is_named() {
    let (path, hierarchy) = hierarchy(1, &["freezer"], "lacking");
    let (_, state) = Cell::make(&[hierarchy], "x", budget("control").unwrap());
    let LayerState::NotApplicable(why) = state else {
        panic!("{state:?}");
    };
    assert!(why.contains("memory") && why.contains("pids") && !why.contains("cpu"), "{why}");
    std::fs::remove_dir(path).unwrap();
}
