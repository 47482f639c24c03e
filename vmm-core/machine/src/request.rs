//! What a guest asks for that only the owner of its vCPUs can do.

use std::sync::Arc;

/// The request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Switch off (ACPI S5).
    PowerOff,
    /// Reset (keyboard controller, reset register).
    Reset,
    /// End the machine with this result (the debug-exit port).
    DebugExit(u32),
}

/// Where devices send requests. Called on a vCPU's thread; must not wait for vCPUs.
pub type Requests = Arc<dyn Fn(Request) + Send + Sync>;
