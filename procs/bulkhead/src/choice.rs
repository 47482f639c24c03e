//! `--cpu auto`: KVM or software, and why.
//!
//! Called by `run` with what the user wants besides. It opens `/dev/kvm` with the user's own rights and
//! closes it again: the supervisor opens it for itself.

use std::fs::OpenOptions;
use std::io::{Error, ErrorKind};

use bulkhead_protocol::spec::EngineSpec;

use crate::options::without_jit;

const KVM: &str = "/dev/kvm";

/// An engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub engine: EngineSpec,
    /// The choice and its reason, in a line.
    pub why: String,
}

/// Chooses.
pub fn auto(_vcpus: u32) -> Choice {
    match OpenOptions::new().read(true).write(true).open(KVM) {
        Ok(_) => Choice { engine: EngineSpec::Kvm, why: format!("cpu: kvm ({KVM} is there)") },
        Err(error) => {
            let why = format!("cpu: soft ({KVM}: {})", reason(&error));
            Choice { engine: EngineSpec::Soft(without_jit()), why }
        }
    }
}

fn reason(error: &Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is none".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
