//! The law of the commands, one sentence each.

use bulkhead_protocol::device::DiskInfo;
use proptest::prelude::*;

use super::*;

const SIZE: u64 = 1 << 30;

fn export() -> Export {
    let disk = DiskInfo {
        size: SIZE,
        logical_block: 512,
        physical_block: 4096,
        optimal_io: 0,
        read_only: false,
        discard: true,
        flush: true,
    };
    Export { name: "disk".into(), description: String::new(), bitmap: None, disk }
}

fn ask(command: Command, flags: u16, offset: u64, len: u64) -> Request {
    Request { flags, command: command.code(), cookie: 1, offset, len }
}

fn verdict_on(request: Request, style: Style) -> Verdict {
    judge(&request, &export(), style, true).verdict
}

fn error(verdict: Verdict) -> Option<Error> {
    match verdict {
        Verdict::Refuse(error, _) => Some(error),
        _ => None,
    }
}

#[test]
fn beyond_the_end_a_write_has_no_space_and_a_read_is_invalid() {
    for (command, expected) in [
        (Command::Write, Error::NoSpace),
        (Command::WriteZeroes, Error::NoSpace),
        (Command::Read, Error::Invalid),
        (Command::Trim, Error::Invalid),
        (Command::BlockStatus, Error::Invalid),
    ] {
        for (offset, len) in [(SIZE, 512), (SIZE - 512, 1024), (u64::MAX - 511, 512)] {
            let verdict = verdict_on(ask(command, 0, offset, len), Style::Structured);
            assert_eq!(error(verdict), Some(expected), "{command:?} {offset:#x}");
        }
    }
}

#[test]
fn a_read_only_export_permits_no_change() {
    let mut export = export();
    export.disk.read_only = true;
    for command in [Command::Write, Command::Trim, Command::WriteZeroes] {
        let judgement = judge(&ask(command, 0, 0, 512), &export, Style::Simple, false);
        assert_eq!(error(judgement.verdict), Some(Error::NotPermitted));
    }
    let judgement = judge(&ask(Command::Read, 0, 0, 512), &export, Style::Simple, false);
    assert!(matches!(judgement.verdict, Verdict::Do(Task::Read { .. })));
}

#[test]
fn a_refused_write_still_brings_its_payload() {
    let judgement = judge(&ask(Command::Write, 0, SIZE, 4096), &export(), Style::Simple, false);
    assert_eq!((error(judgement.verdict), judgement.payload), (Some(Error::NoSpace), 4096));
    let longer = ask(Command::Write, 0, 0, u64::from(MOST_PAYLOAD) + 512);
    assert_eq!(judge(&longer, &export(), Style::Simple, false).verdict, Verdict::Lost);
}

#[test]
fn flags_belong_to_their_commands() {
    assert_eq!(
        error(verdict_on(ask(Command::Read, flag::DF, 0, 512), Style::Simple)),
        Some(Error::Invalid)
    );
    assert_eq!(error(verdict_on(ask(Command::Read, flag::DF, 0, 512), Style::Structured)), None);
    let stray = [
        (Command::Write, flag::DF),
        (Command::Read, flag::NO_HOLE),
        (Command::Write, flag::REQ_ONE),
        (Command::Trim, flag::FAST_ZERO),
        (Command::Write, 1 << 14),
        (Command::Write, flag::PAYLOAD_LEN),
    ];
    for (command, flags) in stray {
        let verdict = verdict_on(ask(command, flags, 0, 512), Style::Structured);
        assert_eq!(error(verdict), Some(Error::Invalid), "{command:?} {flags:#x}");
    }
}

#[test]
fn a_payload_that_a_command_does_not_take_is_read_past() {
    let request = ask(Command::Trim, flag::PAYLOAD_LEN, 0, 4096);
    let judgement = judge(&request, &export(), Style::Extended, false);
    assert_eq!((error(judgement.verdict), judgement.payload), (Some(Error::Invalid), 4096));
    let request = ask(Command::Write, flag::PAYLOAD_LEN, 0, 4096);
    let judgement = judge(&request, &export(), Style::Extended, false);
    assert!(matches!(judgement.verdict, Verdict::Do(Task::Write { .. })));
}

#[test]
fn parts_of_blocks_can_be_read_but_not_written_and_are_not_trimmed() {
    let read = verdict_on(ask(Command::Read, 0, 3, 5), Style::Simple);
    assert_eq!(read, Verdict::Do(Task::Read { range: Range { at: 3, len: 5 }, whole: true }));
    assert_eq!(
        error(verdict_on(ask(Command::Write, 0, 3, 5), Style::Simple)),
        Some(Error::Invalid)
    );
    assert_eq!(verdict_on(ask(Command::Trim, 0, 3, 5), Style::Simple), Verdict::Done);
    let Verdict::Do(Task::Change { range, .. }) =
        verdict_on(ask(Command::Trim, 0, 3, 2048), Style::Simple)
    else {
        panic!("a trim");
    };
    assert_eq!(range, Range { at: 512, len: 1536 });
}

#[test]
fn status_needs_a_context_and_a_range() {
    let request = ask(Command::BlockStatus, 0, 0, 512);
    let judgement = judge(&request, &export(), Style::Structured, false);
    assert_eq!(error(judgement.verdict), Some(Error::Invalid));
    let empty = ask(Command::BlockStatus, 0, 0, 0);
    assert_eq!(error(verdict_on(empty, Style::Structured)), Some(Error::Invalid));
}

proptest! {
    #[test]
    fn whatever_may_be_done_lies_inside_the_disk(
        flags in 0u16..64, command in 0u16..10,
        offset in prop_oneof![any::<u64>(), 0..2 * SIZE], len in prop_oneof![any::<u64>(), 0..2 * SIZE],
        extended: bool,
    ) {
        let style = if extended { Style::Extended } else { Style::Structured };
        let request = Request { flags, command, cookie: 0, offset, len };
        let judgement = judge(&request, &export(), style, true);
        if let Verdict::Do(task) = judgement.verdict {
            let (range, whole) = match task {
                Task::Read { range, .. } | Task::Status { range, .. } => (range, false),
                Task::Write { range, .. } => {
                    prop_assert_eq!(judgement.payload, range.len);
                    (range, true)
                }
                Task::Cache { range } | Task::Change { range, .. } => (range, true),
                Task::Flush => return Ok(()),
            };
            prop_assert!(range.len > 0 && range.end() <= SIZE);
            prop_assert!(!whole || range.is_whole(512));
        }
    }
}

#[test]
fn what_is_zeroed_fast_is_one_request_of_the_ring_or_none() {
    let mut export = export();
    export.disk.size = 4 << 30;
    let verdict = |flags, len| {
        let request = ask(Command::WriteZeroes, flags, 0, len);
        error(judge(&request, &export, Style::Extended, false).verdict)
    };
    assert_eq!(verdict(flag::FAST_ZERO, LONGEST_RANGE + 512), Some(Error::Unsupported));
    assert_eq!(verdict(flag::FAST_ZERO, LONGEST_RANGE), None);
    assert_eq!(verdict(0, LONGEST_RANGE + 512), None);
}
