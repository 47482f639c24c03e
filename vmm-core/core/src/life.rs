//! The life of the machine, as the supervisor commands it and the guest changes it.
//!
//! ```text
//!             Run, devices up          guest, Reset              devices quiet            Boot
//!  Loaded ──────────────────► Running ─────────────► Resetting ─────────────► Reset ──────────► Loaded
//!                               │                                                          (run wanted)
//!                               └── power-off, crash ──► Ended
//! ```
//!
//! Pausing is beside it: a held machine's vCPUs do not run in any state.

/// Where the machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// A kernel is loaded.
    Loaded {
        /// The vCPUs are to run as soon as all devices are up.
        run: bool,
    },
    /// The guest runs, or is held.
    Running,
    /// vCPUs are stopped; some device may still write to guest memory.
    Resetting,
    /// Nothing runs; a kernel is awaited.
    Reset,
    /// Powered off or crashed: nothing will run again.
    Ended,
}
