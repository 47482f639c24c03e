//! `bulkhead policy` and `bulkhead audit`: what is granted, and whether it is so.

use std::process::ExitCode;

use bulkhead_protocol::class::ProcessClass;

use crate::cli::{AuditOptions, PolicyOptions};

/// System calls that a sealed process of this class may make.
pub fn allowed_syscalls(_class: ProcessClass) -> usize {
    0
}

/// Prints manifests.
pub fn show(_options: &PolicyOptions) -> anyhow::Result<ExitCode> {
    anyhow::bail!("policy is being built")
}

/// Compares an instance with its manifests.
pub fn audit(_options: &AuditOptions) -> anyhow::Result<ExitCode> {
    anyhow::bail!("audit is being built")
}
