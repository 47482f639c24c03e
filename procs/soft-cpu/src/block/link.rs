//! How a block knows its successor.
//!
//! Behind each direct jump in a block lies a [`Link`] in a slot of its own. It is used while its epoch
//! is the present one, and, where the jump leaves the page, while it leads to the same linear address:
//! a block may be mapped at several. Within a page it outlives all translations, and joins two blocks of
//! the same page of the host's only.

use crate::cpu::Cpu;
use crate::memory::ram::PAGE;
use crate::op::{At, Next, Op};

/// A remembered successor, the size of an operation.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct Link {
    next: *const Op,
    epoch: u64,
    rip: u64,
}

const _: () = assert!(size_of::<Link>() == size_of::<Op>());

impl Link {
    /// One that leads nowhere yet.
    pub(crate) const EMPTY: Self = Self { next: std::ptr::null(), epoch: 0, rip: 0 };

    /// One of a block at this host address that leads nowhere yet. Until it leads to another page it knows its own.
    pub(crate) const fn from_host(address: u64) -> Self {
        Self::to_address(address & !(PAGE - 1))
    }

    /// One that leads nowhere, but knows an address.
    pub(crate) const fn to_address(rip: u64) -> Self {
        Self { rip, ..Self::EMPTY }
    }

    /// That address.
    pub(crate) const fn address(&self) -> u64 {
        self.rip
    }

    fn behind(at: At) -> *mut Self {
        at.following().as_ptr().cast_mut().cast()
    }
}

impl Cpu {
    /// Goes to `target` by the link behind `at`. `LOCAL`: the target is in the page of the jump.
    #[inline(always)]
    pub(crate) fn follow<const LOCAL: bool>(&mut self, at: At, target: u64) -> Next {
        self.set_rip(target);
        // SAFETY: the decoder puts a link behind each operation whose handler follows one; only the
        // thread that runs this vCPU touches it.
        let link = unsafe { *Link::behind(at) };
        let valid = match LOCAL {
            true => link.epoch == self.blocks.code_epoch,
            false => self.blocks.is_fresh(link.epoch) && link.rip == target,
        };
        if valid { Next(link.next) } else { self.relink::<LOCAL>(at, target) }
    }

    #[cold]
    #[inline(never)]
    fn relink<const LOCAL: bool>(&mut self, at: At, target: u64) -> Next {
        let next = self.go();
        if next == Next::LOOKUP {
            return next;
        }
        // SAFETY: as in `follow`.
        let link = unsafe { &mut *Link::behind(at) };
        if !LOCAL {
            // `go` has just found it by this jump, or remembered it there.
            *link = Link { next: next.0, epoch: self.blocks.jump(target).epoch, rip: target };
            return next;
        }
        // SAFETY: `go` leads to a live block.
        let page = unsafe { (*next.block()).page() };
        if link.rip == page {
            (link.next, link.epoch) = (next.0, self.blocks.code_epoch);
        }
        next
    }
}
