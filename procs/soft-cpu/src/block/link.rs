//! How a block knows its successor.
//!
//! Behind each direct jump in a block lies a [`Link`] in a slot of its own. It is used while its epoch
//! is the present one, and, where the jump leaves the page, while it leads to the same linear address:
//! a block may be mapped at several.

use crate::cpu::Cpu;
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
        if next != Next::LOOKUP {
            // `go` has just found it by this jump, or remembered it there.
            let epoch = match LOCAL {
                true => self.blocks.code_epoch,
                false => self.blocks.jump(target).epoch,
            };
            let link = Link { next: next.0, epoch, rip: target };
            // SAFETY: as in `follow`.
            unsafe { *Link::behind(at) = link };
        }
        next
    }
}
