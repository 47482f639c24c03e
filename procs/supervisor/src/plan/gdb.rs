//! Where a debugger may connect.
//!
//! A TCP port is one of this host's loopback unless the user gives an address: who connects owns the guest.

use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::GdbSpec;

use super::Door;

/// A debugger's way in.
#[derive(Debug)]
pub struct Gdb {
    /// Where.
    pub door: Door,
    /// The guest waits for a debugger.
    pub wait: bool,
}

impl Gdb {
    /// Binds what `spec` says.
    pub fn plan(spec: &GdbSpec, dry: bool) -> Result<Self, Refusal> {
        Ok(Self { door: Door::bind("--gdb", &spec.listen, dry)?, wait: spec.wait })
    }
}
