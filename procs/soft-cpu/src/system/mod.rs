//! Instructions that change what the processor is, or ask what it is.

mod clock;
mod control;
mod cpuid;
mod debug;
mod descriptor;
mod idle;
mod msr;
mod pause;
mod port;
mod segment;
mod space;
mod startup;
mod table;
mod watch;

pub(crate) use clock::{Clock, Rota, host_frequency};
pub use cpuid::Leaves;
pub(crate) use descriptor::selector_code;
pub(crate) use pause::Spinning;

use crate::op::Handler;
use crate::select::{Draft, Ending};

/// Names the handler of a system instruction.
pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    let parts = [
        segment::select,
        table::select,
        port::select,
        msr::select,
        idle::select,
        pause::select,
        cpuid::select,
        control::select,
    ];
    for part in parts {
        if let Some(handler) = part(draft) {
            return Some(handler);
        }
        draft.ending = Ending::Open;
    }
    None
}
