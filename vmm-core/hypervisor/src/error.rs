//! What goes wrong between us and an engine.

use std::io;

/// Why an engine could not do what it was asked. The guest is never to blame here: its mistakes are
/// exits, not errors.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The host's KVM lacks something that no machine of ours can do without.
    #[error("this host's KVM cannot run a machine: it lacks {missing}")]
    Unsupported {
        /// What is missing, by KVM's name and what it is for.
        missing: &'static str,
    },
    /// The host's processor lacks something by which guest instructions are executed in software.
    #[error("this host's processor cannot execute guests in software: it lacks {missing}")]
    HostCpu {
        /// Which instruction set.
        missing: &'static str,
    },
    /// The descriptor that the plan calls `/dev/kvm` is something else.
    #[error(
        "the descriptor given as /dev/kvm does not answer like KVM (API version {version}, 12 expected)"
    )]
    NotKvm {
        /// What it answered.
        version: i32,
    },
    /// The kernel refused a call.
    #[error("this host refused to {action}: {source}")]
    Host {
        /// What it was asked to do.
        action: &'static str,
        /// Its reason.
        source: io::Error,
    },
    /// The kernel took a saved state only in part.
    #[error("KVM refused to set model-specific register {index:#x} to {value:#x}")]
    Msr {
        /// The register.
        index: u32,
        /// The value.
        value: u64,
    },
    /// The engine's process has ended, which the supervisor knows better.
    #[error("the engine's process is gone")]
    Gone,
    /// The engine's process is silent, or says what no engine says.
    #[error("the engine's process did not {action}: {reason}")]
    Remote {
        /// What it was to do.
        action: &'static str,
        /// What happened instead.
        reason: String,
    },
    /// All interrupt numbers are in use.
    #[error("all {limit} interrupt numbers are in use")]
    NoGsiLeft {
        /// How many there are.
        limit: u32,
    },
    /// More breakpoints than the processor has debug registers.
    #[error("this host's processor has {limit} breakpoints, {wanted} are asked for")]
    Breakpoints {
        /// How many there are.
        limit: usize,
        /// How many it would take.
        wanted: usize,
    },
    /// A caller of ours asked for something senseless.
    #[error("bug: {0}")]
    Bug(&'static str),
}

impl EngineError {
    /// What another process did wrong. Its words end on a terminal: some of them, and printable.
    pub(crate) fn remote(action: &'static str, reason: impl ToString) -> Self {
        const MOST: usize = 200;
        let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
        let reason = reason.to_string().chars().take(MOST).map(printable).collect();
        Self::Remote { action, reason }
    }

    /// For `map_err` on a kernel call: remembers what was tried.
    pub(crate) fn host<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Host { action, source: source.into() }
    }
}
