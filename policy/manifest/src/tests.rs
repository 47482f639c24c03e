//! The profiles as they are, and profiles that must be refused.

use std::collections::BTreeMap;

use super::*;

#[test]
fn every_profile_is_lawful() {
    let mut faults = Vec::new();
    for (name, text) in PROFILES {
        if let Err(error) = Manifest::parse(name, text) {
            faults.push(error.to_string());
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
