//! Locked operations that the host cannot do for us: the other vCPUs stand still for one instruction.
//!
//! ```text
//!  handler: the operand crosses a line ─► Stop::Exclusive ─► run loop: take the world
//!     others: signal ─► out of the guest, wait ◄──────────── until none is inside
//!  the instruction runs alone, as loads and stores ─► give the world back ─► others go in
//! ```
//!
//! Called by the locked handlers ([`Cpu::lockable`]) and by the run loop.
//!
//! Law: a vCPU waits for the world *outside* the guest, so that whoever has it, or gives orders about
//! code, never waits for the waiting one. What a handler holds of guest RAM ends with its block: a vCPU
//! that is outside touches nothing.
//!
//! Why not only where pages are crossed: within a page the host could lock across two cache lines, but
//! that stops every processor of the host, and some hosts punish or kill who does it. Here the guest
//! stops itself alone.

use std::sync::atomic::{AtomicBool, Ordering};

use super::access::Through;
use crate::apic::signal;
use crate::cpu::Cpu;
use crate::fault::{Raised, Stop};
use crate::op::At;

/// Bytes of the host's cache lines: what a locked instruction of the host stays within.
const LINE: u64 = 64;

/// Who may execute, of a machine's vCPUs.
#[derive(Debug, Default)]
pub(crate) struct World {
    taken: AtomicBool,
}

impl World {
    fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::SeqCst)
    }

    fn give_back(&self) {
        self.taken.store(false, Ordering::SeqCst);
    }

    /// Whether one vCPU executes alone.
    pub(crate) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::SeqCst)
    }

    /// Waits, outside the guest, until no vCPU executes alone.
    pub(crate) fn wait(&self) {
        let mut looks = 0;
        while self.is_taken() {
            pause(&mut looks);
        }
    }
}

/// One look more at what another vCPU's thread will do soon, which may want this one's host processor.
pub(super) fn pause(looks: &mut u32) {
    *looks += 1;
    if looks.is_multiple_of(64) { std::thread::yield_now() } else { std::hint::spin_loop() }
}

impl Cpu {
    /// The host address of a locked instruction's operand, for one locked instruction of the host, which
    /// `size` bytes there permit. `None`: plain loads and stores do, for nobody else executes, or it is
    /// no RAM.
    #[inline(always)]
    pub fn lockable(&mut self, at: At, size: u32) -> Result<Option<*mut u8>, Raised> {
        let linear = self.address(at, size, true)?;
        if linear % LINE + u64::from(size) > LINE {
            return self.lockable_split(linear, size, Through::of(at));
        }
        self.writable_at(linear, size, Through::of(at))
    }

    #[cold]
    #[inline(never)]
    fn lockable_split(
        &mut self,
        linear: u64,
        size: u32,
        through: Through,
    ) -> Result<Option<*mut u8>, Raised> {
        // Its faults come first, as if it had all been done.
        self.writable_at(linear, size, through)?;
        if self.has_world || self.apic.others().is_empty() {
            return Ok(None);
        }
        self.stop = Stop::Exclusive;
        Err(Raised)
    }

    /// Waits until no other vCPU executes; none does until [`give_world_back`](Self::give_world_back).
    /// Only between blocks.
    pub(crate) fn take_world(&mut self) {
        while !self.apic.world().take() {
            self.make_way();
        }
        self.has_world = true;
        for other in self.apic.others() {
            other.signal(signal::WORK);
            let mut looks = 0;
            while other.orders.is_inside() {
                self.obey();
                pause(&mut looks);
            }
        }
    }

    /// The others may execute again.
    pub(crate) fn give_world_back(&mut self) {
        self.has_world = false;
        self.apic.world().give_back();
    }

    /// Out of the guest while another vCPU executes alone. Only between blocks.
    pub(crate) fn make_way(&mut self) {
        if self.apic.world().is_taken() {
            self.go_outside();
            self.go_inside();
        }
    }
}
