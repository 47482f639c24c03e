//! Ways out of a compiled block, and how they find the next one.
//!
//! | where to | how |
//! | --- | --- |
//! | the same page | the jump itself is changed to lead there; the page's code is dropped as a whole |
//! | another page, or what may go on in the next | by a cell that counts while no translation was dropped since it was filled |
//! | an address in a register | by a table of such addresses, whose entries count as long |
//!
//! A dropped block's entry becomes a jump to its own way out, so that what leads there need not be found.

use super::code::{Cells, Site};
use super::compile::{Exit, Source};
use super::emit::{A, B, Emitter, Hole, Opcode, Place, Rm, condition};
use super::glue::{Glue, reason};
use super::layout::{self, slot};
use super::{access, jumps};
use crate::block::LONGEST;
use crate::memory::ram::PAGE;
use crate::state::Reg;

/// Where an entry of the table of indirect jumps holds the host address.
pub(super) const JUMP_CODE: i32 = std::mem::offset_of!(jumps::Jump, code) as i32;

/// Leaves, with RIP at a known address.
pub(super) fn give_up(code: &mut Emitter, glue: Glue, rip: u64, reason: u32) {
    code.store_constant(layout::file(Reg::RIP), rip, A);
    code.constant(B, reason.into());
    code.jump(glue.leave);
}

/// Emits what an exit needs, that of the straight version there and in the cold; the site to be linked later has this
/// number. `None`: no cell is left.
pub(super) fn emit(
    straight: Option<&mut Emitter>,
    cold: &mut Emitter,
    glue: Glue,
    exit: &Exit,
    source: Source,
    number: u32,
    cells: &mut Cells,
) -> Option<Site> {
    let rip = source.rip;
    let is_within = exit.target % PAGE <= PAGE - LONGEST as u64;
    let site = if is_within && rip & !(PAGE - 1) == exit.target & !(PAGE - 1) {
        let here = cold.here();
        let code = match straight {
            Some(straight) => straight,
            None => &mut *cold,
        };
        code.aim(exit.hole, here);
        Site::Near { distance: code.place_of(exit.hole), page: source.page }
    } else {
        let cell = cells.take()?;
        match straight {
            Some(code) => {
                code.bind(exit.hole);
                let stale = by_cell(code, cell, exit.target);
                code.aim(stale, cold.here());
            }
            None => {
                cold.bind(exit.hole);
                let stale = by_cell(cold, cell, exit.target);
                cold.bind(stale);
            }
        }
        if rip >> 63 == 0 {
            // Other users have other code at this address, and the cell counts for one of them.
            look_up_or_give_up(cold, glue, exit.target, reason::FIRST_EXIT + number);
            return Some(Site::Far { cell });
        }
        Site::Far { cell }
    };
    give_up(cold, glue, exit.target, reason::FIRST_EXIT + number);
    Some(site)
}

/// Goes to where a known address is compiled, or leaves.
fn look_up_or_give_up(code: &mut Emitter, glue: Glue, rip: u64, reason: u32) {
    code.store_constant(layout::file(Reg::RIP), rip, A);
    code.store_constant(layout::file(slot::SPARE), reason.into(), A);
    code.jump(glue.look);
}

/// By a cell; taken if it does not count.
fn by_cell(code: &mut Emitter, cell: u32, target: u64) -> Hole {
    code.encode(Opcode::wide(&[0x8b]), A, Rm::Code(cell), &[]);
    // The upper half is a kernel's, whose pages are global.
    let is_upper = target >> 63 != 0;
    let stale = demand_fresh(code, if is_upper { EPOCHS } else { [EPOCHS[1], EPOCHS[0]] });
    code.encode(Opcode::narrow(&[0xff]), 4, Rm::Code(cell + 8), &[]);
    stale
}

/// Leaves [`B`] pointing to the entry for the address in [`A`], or by one of the two jumps.
pub(super) fn look_up(code: &mut Emitter) -> [Hole; 2] {
    use jumps::Jump;
    use std::mem::offset_of;
    // mov r11d, r10d
    code.encode(Opcode::narrow(&[0x89]), A, Rm::Register(B), &[]);
    code.arithmetic(4, B, jumps::MASK as i32, false);
    // shl r11d, 5
    let shift = size_of::<Jump>().trailing_zeros() as u8;
    code.encode(Opcode::narrow(&[0xc1]), 4, Rm::Register(B), &[shift]);
    access::add(code, B, layout::file(slot::JUMPS));
    access::compare(code, A, Place::at(B, offset_of!(Jump, rip) as i32));
    let other = code.branch_ahead(condition::NOT_EQUAL);
    code.load(A, Place::at(B, offset_of!(Jump, epoch) as i32));
    [other, demand_fresh(code, EPOCHS)]
}

/// The numbers that a link may carry to hold.
const EPOCHS: [Reg; 2] = [slot::GLOBAL_EPOCH, slot::EPOCH];

/// Goes on if the number in [`A`] is one of these; the jump that is taken if not.
fn demand_fresh(code: &mut Emitter, epochs: [Reg; 2]) -> Hole {
    access::compare(code, A, layout::file(epochs[0]));
    let fresh = code.branch_ahead(condition::EQUAL);
    access::compare(code, A, layout::file(epochs[1]));
    let stale = code.branch_ahead(condition::NOT_EQUAL);
    code.bind(fresh);
    stale
}
