//! What both kinds of in-flight records are put through: an honest frontend hands a table back whose
//! content, and whose queue's, is an input.

use bulkhead_protocol::device::DeviceEvent;

use super::{Verdict, guest};
use crate::draw::Draw;
use crate::patter::{self, Word};
use crate::stage::Stage;

/// Descriptors of the queue.
pub const SIZE: u16 = 8;

/// Plays an input. Accepted: some request was served.
pub fn run(bytes: &[u8], features: u64) -> Verdict {
    let mut draw = Draw::new(bytes);
    let stage = Stage::default();
    let len = usize::from(draw.half());
    stage.write_table(0, draw.bytes(len));
    stage.write_memory(guest::QUEUE, draw.rest());
    let mut words = patter::start(features, SIZE, guest::layout(SIZE), true);
    words.extend([Word::Stop(0), Word::Kick(0), Word::Enable(0, true)]);
    let lines: Vec<_> = words.into_iter().map(|word| word.line(true)).collect();
    let curtain = stage.play(&lines);
    curtain.outcome.expect("a table cannot end the process");
    assert_eq!(curtain.events.last(), Some(&DeviceEvent::Disconnected));
    Verdict::accepted_if(curtain.taken > 0)
}

/// The input with that record and that queue.
pub fn sample(record: &[u8], image: &[u8]) -> Vec<u8> {
    [&(record.len() as u16).to_le_bytes()[..], record, image].concat()
}
