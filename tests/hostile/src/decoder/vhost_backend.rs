//! What a hostile vhost-user frontend says to a device process, and what the guest behind it wrote.
//!
//! An input is a script of messages, each honest or damaged. Whatever it is: the process lets go of
//! the frontend, tells so, and lives on.

use bulkhead_protocol::device::DeviceEvent;

use super::{Verdict, guest};
use crate::draw::Draw;
use crate::patter::{self, Word};
use crate::stage::{Line, Prop, Stage};

/// Messages of one script.
const MOST_LINES: usize = 100;

/// Bytes of a message that are damaged at most.
const MOST_DAMAGE: u8 = 4;

/// Rings of the scripts: 8 descriptors.
const SIZE: u16 = 8;

/// Length of guest memory's image, the image, and then messages of a head byte, an index and what
/// damages them.
pub fn run(bytes: &[u8]) -> Verdict {
    let mut draw = Draw::new(bytes);
    let stage = Stage::default();
    let len = draw.half().into();
    stage.write_memory(guest::QUEUE, draw.bytes(len));
    let mut lines = Vec::new();
    while lines.len() < MOST_LINES && !draw.is_over() {
        lines.push(line(&mut draw));
    }
    let curtain = stage.play(&lines);
    curtain.outcome.expect("a frontend cannot end the process");
    let last = curtain.events.last();
    assert_eq!(last, Some(&DeviceEvent::Disconnected), "{:?}", curtain.events);
    Verdict::accepted_if(curtain.taken > 0)
}

fn line(draw: &mut Draw<'_>) -> Line {
    let (head, queue) = (draw.byte(), draw.byte());
    let mut line = word(draw.byte(), queue).line(head & 1 != 0);
    if head & 2 != 0 {
        for _ in 0..=draw.byte() % MOST_DAMAGE {
            let at = usize::from(draw.byte()) % line.bytes.len();
            line.bytes[at] = draw.byte();
        }
    }
    match head >> 4 {
        1 => line.props.clear(),
        2 => line.props.push(Prop::Bell),
        3 => line.props.iter_mut().for_each(|prop| *prop = Prop::Socket),
        4 => line.props.iter_mut().for_each(|prop| *prop = Prop::Memory),
        5 => line.bytes.truncate(draw.byte().into()),
        6 => line.props.extend([Prop::Bell; 62]),
        _ => {}
    }
    line
}

fn word(number: u8, queue: u8) -> Word {
    let words = vocabulary(queue);
    words[usize::from(number) % words.len()]
}

/// Everything that can be said about a queue. The order is the samples', too.
fn vocabulary(queue: u8) -> [Word; 26] {
    let base = u32::from(queue) << 8;
    [
        Word::Owner,
        Word::AskFeatures,
        Word::AskProtocol,
        Word::Protocol,
        Word::Features(patter::SPLIT),
        Word::Features(patter::PACKED),
        Word::Memory,
        Word::Table,
        Word::Size(queue % 3, SIZE),
        Word::Place(queue % 3, guest::layout(SIZE)),
        Word::Base(queue % 3, base),
        Word::Call(queue % 3),
        Word::Kick(queue % 3),
        Word::Enable(queue % 3, true),
        Word::Enable(queue % 3, false),
        Word::Stop(queue % 3),
        Word::ResetOwner,
        Word::AskQueues,
        Word::AskSlots,
        Word::AddRegion,
        Word::RemoveRegion,
        Word::Error(queue % 3),
        Word::Requests,
        Word::AskConfig(u32::from(queue)),
        Word::Config,
        Word::AskTable,
    ]
}

/// A frontend that starts a split queue, stops it, starts it again; and all it could ask between.
pub fn samples() -> Vec<Vec<u8>> {
    let image = guest::split_image(SIZE);
    let begin = [&(image.len() as u16).to_le_bytes()[..], &image].concat();
    let said = |words: &[u8]| words.iter().flat_map(|word| [1, 0, *word]).collect::<Vec<u8>>();
    let starting = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13];
    let start = [&begin[..], &said(&starting)].concat();
    let again = [&start[..], &said(&[15, 8, 10, 12, 13, 15])].concat();
    let curious = [&start[..], &said(&[17, 18, 19, 20, 21, 22, 24, 14, 13, 6, 16, 25])].concat();
    let config = [&start[..], &[0, 60, 23, 1, 255, 23]].concat();
    vec![start, again, curious, config]
}
