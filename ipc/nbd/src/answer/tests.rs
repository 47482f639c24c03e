//! Answers that are right, and those that must never reach memory.

use proptest::prelude::*;

use super::*;

fn reading(offset: u64, len: u64) -> Answer {
    Answer::new(Asked { command: Command::Read, offset, len })
}

fn hole(offset: u64, len: u32) -> Vec<u8> {
    offset.to_be_bytes().into_iter().chain(len.to_be_bytes()).collect()
}

#[test]
fn a_read_in_pieces_is_whole_when_all_of_it_came() {
    let mut answer = reading(4096, 1024);
    let data = answer.chunk(Style::Structured, ChunkKind::Data, 8 + 512, false).unwrap();
    assert_eq!(data, Payload::Data(512));
    assert_eq!(answer.place(4096 + 512, 512), Ok(512));
    assert_eq!(answer.clone().end(), Err(Fault::Incomplete));
    assert_eq!(answer.chunk(Style::Structured, ChunkKind::Hole, 12, true), Ok(Payload::Small(12)));
    assert_eq!(answer.small(ChunkKind::Hole, None, &hole(4096, 512)), Ok(Some((0, 512))));
    assert_eq!(answer.end(), Ok(Ok(Vec::new())));
}

#[test]
fn data_outside_of_what_was_asked_is_a_fault() {
    for (offset, len) in [(4095, 512), (4097, 1024), (0, 1), (u64::MAX, 2), (4096, 1025)] {
        assert_eq!(reading(4096, 1024).place(offset, len), Err(Fault::Outside), "{offset} {len}");
    }
    let mut twice = reading(0, 1024);
    twice.place(0, 600).unwrap();
    assert_eq!(twice.place(0, 600), Err(Fault::Outside));
    let chunk = |len| reading(0, 512).chunk(Style::Structured, ChunkKind::Data, len, false);
    for len in [0, 8, 521, u64::MAX] {
        assert_eq!(chunk(len), Err(Fault::Outside), "{len}");
    }
}

#[test]
fn a_reply_fits_what_was_agreed_and_asked() {
    let write = || Answer::new(Asked { command: Command::Write, offset: 0, len: 512 });
    assert_eq!(write().simple(Style::Structured, Ok(())), Ok(Payload::None));
    assert_eq!(write().simple(Style::Extended, Ok(())), Err(Fault::Misplaced));
    assert_eq!(reading(0, 9).simple(Style::Structured, Ok(())), Err(Fault::Misplaced));
    assert_eq!(reading(0, 9).simple(Style::Simple, Ok(())), Ok(Payload::All(9)));
    let mut refused = reading(0, 9);
    assert_eq!(refused.simple(Style::Structured, Err(Error::Io)), Ok(Payload::None));
    assert_eq!(refused.end(), Ok(Err(Error::Io)));
    assert_eq!(reading(0, 9).simple(Style::Extended, Err(Error::Io)), Err(Fault::Misplaced));
    assert_eq!(write().chunk(Style::Structured, ChunkKind::Data, 520, true), Err(Fault::Misplaced));
    assert_eq!(write().chunk(Style::Simple, ChunkKind::None, 0, true), Err(Fault::Misplaced));
    assert_eq!(write().chunk(Style::Extended, ChunkKind::None, 0, false), Err(Fault::Misplaced));
}

#[test]
fn an_error_ends_it_whatever_came_before_and_errors_are_counted() {
    let mut answer = reading(0, 1024);
    answer.place(0, 512).unwrap();
    let mut payload = 28_u32.to_be_bytes().to_vec();
    payload.extend([0, 2, b'n', b'o']);
    answer.chunk(Style::Structured, ChunkKind::Error, 8, true).unwrap();
    answer.small(ChunkKind::Error, None, &payload).unwrap();
    assert_eq!(answer.end(), Ok(Err(Error::NoSpace)));
    let mut endless = reading(0, 1024);
    let errors = (0..100).map(|_| endless.chunk(Style::Structured, ChunkKind::Error, 8, false));
    assert_eq!(errors.last(), Some(Err(Fault::Endless)));
}

#[test]
fn status_is_of_the_context_that_was_asked_for() {
    let mut answer = Answer::new(Asked { command: Command::BlockStatus, offset: 0, len: 4096 });
    let payload: Vec<u8> = [7_u32, 512, 3].iter().flat_map(|word| word.to_be_bytes()).collect();
    assert_eq!(answer.small(ChunkKind::Status, Some(8), &payload), Err(Fault::Misplaced));
    answer.small(ChunkKind::Status, Some(7), &payload).unwrap();
    assert_eq!(answer.end(), Ok(Ok(vec![Extent { len: 512, status: 3 }])));
}

proptest! {
    #[test]
    fn whatever_comes_lies_in_what_was_asked(
        offset in 0_u64..1 << 40,
        len in 1_u64..1 << 20,
        chunks in prop::collection::vec((any::<u64>(), any::<u64>()), 0..20),
    ) {
        let mut answer = reading(offset, len);
        let mut covered = 0;
        for (at, count) in chunks {
            let (at, count) = (offset.wrapping_add(at % (2 * len)), count % (2 * len));
            let Ok(start) = answer.place(at, count) else { return Ok(()) };
            covered += count;
            prop_assert!(start + count <= len && covered <= len);
        }
        prop_assert_eq!(answer.end().is_ok(), covered == len);
    }
}
