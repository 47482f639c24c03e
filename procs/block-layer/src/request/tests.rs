use proptest::prelude::*;

use super::*;

const SIZE: u64 = 1 << 30;
const ARENA: u64 = 8 << 20;

fn limits() -> Limits {
    Limits { size: SIZE, block: 512, read_only: false, discard: true, arena: ARENA }
}

fn read() -> BlockRequest {
    BlockRequest {
        tag: 7,
        offset: 4096,
        span: 8192,
        len: 4096,
        operation: Operation::Read.code(),
        flags: 0,
        reserved: [0; 6],
    }
}

#[test]
fn an_honest_read_passes_with_its_numbers() {
    let request = limits().check(&read()).unwrap();
    let span = Span { offset: 8192, len: 4096 };
    assert_eq!(request.tag, 7);
    assert_eq!(request.action, Action::Read { at: 4096, span });
}

#[test]
fn fua_is_heard_on_writes() {
    let write = BlockRequest { operation: Operation::Write.code(), flags: FLAG_FUA, ..read() };
    let Action::Write { durability, .. } = limits().check(&write).unwrap().action else {
        panic!("a write was not taken for one");
    };
    assert_eq!(durability, Durability::Fua);
}

#[test]
fn each_single_lie_is_refused() {
    let lies: [fn(&mut BlockRequest); 13] = [
        |r| r.offset = SIZE,
        |r| r.offset = SIZE - 512,
        |r| r.offset = u64::MAX - 511,
        |r| r.offset = 4097,
        |r| r.len = 0,
        |r| r.len = 511,
        |r| r.len = MAX_TRANSFER + 512,
        |r| r.span = ARENA as u32,
        |r| r.span = u32::MAX - 511,
        |r| r.span = 1,
        |r| r.operation = 7,
        |r| r.flags = 2,
        |r| r.reserved[5] = 1,
    ];
    for (number, lie) in lies.iter().enumerate() {
        let mut request = read();
        lie(&mut request);
        assert_eq!(limits().check(&request), Err(Failure::INVALID), "lie {number}");
    }
}

#[test]
fn a_read_only_disk_refuses_whatever_changes_it() {
    let limits = Limits { read_only: true, ..limits() };
    for operation in
        [Operation::Write, Operation::Discard, Operation::WriteZeroes, Operation::WriteZeroesUnmap]
    {
        let request = BlockRequest { operation: operation.code(), ..read() };
        assert_eq!(limits.check(&request), Err(Failure::READ_ONLY));
    }
    assert!(limits.check(&read()).is_ok());
}

#[test]
fn without_discard_zeroes_stay_allocated_and_discard_is_no_operation() {
    let limits = Limits { discard: false, ..limits() };
    let with = |operation: Operation| BlockRequest { operation: operation.code(), ..read() };
    let zero = limits.check(&with(Operation::WriteZeroesUnmap)).unwrap();
    assert!(matches!(zero.action, Action::Zero { unmap: false, .. }));
    let discard = limits.check(&with(Operation::Discard));
    assert_eq!(discard, Err(Failure::UNSUPPORTED));
}

#[test]
fn a_disk_of_larger_blocks_takes_no_halves() {
    let limits = Limits { block: 4096, ..limits() };
    let half = BlockRequest { len: 512, ..read() };
    assert_eq!(limits.check(&half), Err(Failure::INVALID));
    assert!(limits.check(&read()).is_ok());
}

proptest! {
    #[test]
    fn whatever_passes_lies_in_image_and_arena(
        size in (1u64..1 << 40).prop_map(|size| size * 512),
        arena in (0u64..1 << 14).prop_map(|pages| pages * 4096),
        offset in prop_oneof![any::<u64>(), (0u64..1 << 41).prop_map(|sector| sector << 9)],
        span in prop_oneof![any::<u32>(), (0u32..1 << 17).prop_map(|sector| sector << 9)],
        len in prop_oneof![any::<u32>(), (0u32..1 << 12).prop_map(|sector| sector << 9)],
        operation in 0u8..8,
        flags in 0u8..4,
        read_only: bool,
        discard: bool,
    ) {
        let limits = Limits { size, block: 512, read_only, discard, arena };
        let alleged = BlockRequest { tag: 0, offset, span, len, operation, flags, reserved: [0; 6] };
        if let Ok(request) = limits.check(&alleged) {
            match request.action {
                Action::Read { at, span } => prop_assert!(inside(at, span.len, size) && held(span, arena)),
                Action::Write { at, span, .. } => {
                    prop_assert!(!read_only && inside(at, span.len, size) && held(span, arena));
                }
                Action::Flush => {}
                Action::Status { at, len, span, .. } => {
                    prop_assert!(u128::from(at) + u128::from(len) <= u128::from(size) && held(span, arena));
                }
                Action::Discard { at, len } | Action::Zero { at, len, .. } => {
                    prop_assert!(!read_only && u128::from(at) + u128::from(len) <= u128::from(size));
                }
            }
        }
    }
}

fn inside(at: u64, len: u32, size: u64) -> bool {
    len > 0 && len <= MAX_TRANSFER && u128::from(at) + u128::from(len) <= u128::from(size)
}

fn held(span: Span, arena: u64) -> bool {
    span.offset.is_multiple_of(512) && u64::from(span.offset) + u64::from(span.len) <= arena
}
