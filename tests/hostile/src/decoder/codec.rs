//! Messages on channels: every type of `ipc/protocol`, through the one codec.
//!
//! The first byte of an input chooses the type. What decodes must encode to the very same bytes: a
//! message has one meaning, so two processes cannot read it differently.

mod samples;

use bulkhead_channel::{Message, codec};
use bulkhead_hypervisor::remote::wire;
use bulkhead_protocol::block::{BlockCommand, BlockEvent};
use bulkhead_protocol::control::{FromSupervisor, Request, Response, ToSupervisor};
use bulkhead_protocol::core::{CoreCommand, CoreEvent};
use bulkhead_protocol::device::{BlkCommand, ConsoleCommand, DeviceEvent, RngCommand};
use bulkhead_protocol::gdb::{DebugReport, DebugRequest, GdbCommand};
use bulkhead_protocol::launch::{LauncherCommand, LauncherEvent};
use bulkhead_protocol::session::{SessionCommand, SessionEvent};
use bulkhead_protocol::sink::SinkCommand;
use bulkhead_protocol::start::{FromHelper, Nothing, ToHelper};

use super::Verdict;
use crate::draw::Draw;

pub use samples::samples;

/// Decodes, counts descriptors and encodes again.
fn there_and_back<T: Message>(bytes: &[u8]) -> Verdict {
    let decoded = codec::decode::<T>(bytes);
    if let Ok(message) = &decoded {
        // Computed from hostile numbers: it must not overflow.
        let _fds = message.fd_count();
        let again = codec::encode(message).expect("what was decoded can be encoded");
        assert_eq!(again, bytes, "a message with two encodings");
    }
    Verdict::of(&decoded)
}

/// Every type that is decoded from what another process sent.
const TYPES: &[fn(&[u8]) -> Verdict] = &[
    there_and_back::<Request>,
    there_and_back::<Response>,
    there_and_back::<SessionCommand>,
    there_and_back::<SessionEvent>,
    there_and_back::<LauncherCommand>,
    there_and_back::<LauncherEvent>,
    there_and_back::<ToHelper<FromSupervisor>>,
    there_and_back::<FromHelper<ToSupervisor>>,
    there_and_back::<ToHelper<CoreCommand>>,
    there_and_back::<FromHelper<CoreEvent>>,
    there_and_back::<ToHelper<BlkCommand>>,
    there_and_back::<ToHelper<ConsoleCommand>>,
    there_and_back::<ToHelper<RngCommand>>,
    there_and_back::<FromHelper<DeviceEvent>>,
    there_and_back::<ToHelper<BlockCommand>>,
    there_and_back::<FromHelper<BlockEvent>>,
    there_and_back::<ToHelper<SinkCommand>>,
    there_and_back::<FromHelper<Nothing>>,
    there_and_back::<wire::Request>,
    there_and_back::<wire::Answer>,
    there_and_back::<wire::Turn>,
    there_and_back::<wire::Halt>,
    there_and_back::<ToHelper<GdbCommand>>,
    there_and_back::<DebugRequest>,
    there_and_back::<DebugReport>,
];

/// The type that the first byte chooses, from the bytes after it.
pub fn run(bytes: &[u8]) -> Verdict {
    let mut draw = Draw::new(bytes);
    let number = usize::from(draw.byte()) % TYPES.len();
    TYPES[number](draw.rest())
}
