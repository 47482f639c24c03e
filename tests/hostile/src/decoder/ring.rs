//! Indices and entries of a pair of rings whose other end writes what it likes where it likes.
//!
//! An input is a script: the attacker's writes to shared memory between the honest calls of both ends.

use bulkhead_protocol::block_ring::{BlockCompletion, BlockRequest};
use bulkhead_ring::{Client, PushError, RingGeometry, Server, create};
use bulkhead_sys::mapping::{Rights, SharedMapping};

use super::Verdict;
use crate::draw::Draw;

const ENTRIES: u32 = 8;
const ARENA: u64 = 8192;

/// Acts of one script.
const MOST_ACTS: usize = 300;

struct Pair {
    client: Client<BlockRequest, BlockCompletion>,
    server: Server<BlockRequest, BlockCompletion>,
    evil: SharedMapping,
    moved: bool,
}

/// Plays a script.
pub fn run(bytes: &[u8]) -> Verdict {
    let geometry = RingGeometry::new(ENTRIES, ARENA).expect("a shape that rings have");
    let fd = create(geometry, 1).expect("a memory object");
    let len = geometry.object_len() as usize;
    let mut pair = Pair {
        client: Client::attach(&fd, geometry, 1).expect("a fresh ring"),
        server: Server::attach(&fd, geometry, 1).expect("a fresh ring"),
        evil: SharedMapping::map(&fd, len, Rights::ReadWrite).expect("a mapping"),
        moved: false,
    };
    let mut draw = Draw::new(bytes);
    for _ in 0..MOST_ACTS {
        if draw.is_over() {
            break;
        }
        // Faults are remembered by nobody: an end that goes on after one must be as safe.
        let _blamed = act(&mut pair, &mut draw);
    }
    Verdict::accepted_if(pair.moved)
}

fn act(pair: &mut Pair, draw: &mut Draw<'_>) -> Result<(), PushError> {
    match draw.byte() % 8 {
        0 => {
            let at = draw.below(10) as usize * 128;
            let _outside = pair.evil.copy_out(at, &draw.word().to_le_bytes());
        }
        1 => {
            let at = draw.half().into();
            let len = draw.below(64) as usize;
            let _outside = pair.evil.copy_out(at, draw.bytes(len));
        }
        2 => {
            assert!(pair.client.submit.room()? <= ENTRIES);
            pair.client.submit.push(request(draw))?;
        }
        3 => {
            let reserved = [0; 5];
            let status = draw.byte().into();
            pair.server.complete.push(BlockCompletion { tag: draw.long(), status, reserved })?;
        }
        4 => drop((pair.client.submit.publish(), pair.server.complete.publish())),
        5 => {
            if let Some(request) = pair.server.submit.pop()? {
                pair.moved = true;
                judge(pair, request);
            }
        }
        6 => pair.moved |= pair.client.complete.pop()?.is_some(),
        _ => {
            let _slept = (pair.server.submit.arm()?, pair.client.complete.arm()?);
            pair.server.submit.disarm();
            let _hint = pair.server.cpus.shared(draw.byte().into());
        }
    }
    Ok(())
}

fn request(draw: &mut Draw<'_>) -> BlockRequest {
    BlockRequest {
        tag: draw.long(),
        offset: draw.long(),
        span: draw.word(),
        len: draw.word(),
        operation: draw.byte(),
        flags: draw.byte(),
        reserved: [0; 6],
    }
}

/// Whatever is taken names its data by an allegation; what the arena lets through lies inside.
fn judge(pair: &Pair, request: BlockRequest) {
    if let Ok(slice) = pair.server.arena.check(request.span.into(), request.len.into()) {
        slice.mapping().check(slice.offset(), slice.len()).expect("a slice outside its mapping");
        assert!(slice.len() as u64 <= ARENA);
    }
}

/// Honest traffic, and a scribble.
pub fn samples() -> Vec<Vec<u8>> {
    let mut entry = vec![2];
    entry.extend([1u64, 4096].map(u64::to_le_bytes).concat());
    entry.extend([0u32, 512].map(u32::to_le_bytes).concat());
    entry.extend([0, 0]);
    let mut honest = entry.repeat(4);
    honest.extend([4, 5, 5, 3, 0]);
    honest.extend(1u64.to_le_bytes());
    honest.extend([4, 6, 7, 0, 5, 5]);
    let mut scribbled = honest.clone();
    scribbled.extend([0, 1, 0, 9, 0, 0, 0, 5, 1, 0, 8, 4, 0, 1, 2, 3, 4, 5]);
    vec![honest, scribbled]
}
