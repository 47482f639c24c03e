//! The book against a model that remembers who has which page.

use proptest::prelude::*;

use super::*;

const PAGES: u64 = 200;

fn allocator() -> ArenaAllocator {
    ArenaAllocator::new(PAGES * PAGE)
}

#[test]
fn a_single_page_that_came_back_last_goes_out_first() {
    let mut book = allocator();
    let spans: Vec<_> = (0..8).map(|_| book.alloc(512).unwrap()).collect();
    let offsets: Vec<_> = spans.iter().map(ArenaSpan::offset).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4, 5, 6, 7].map(|page| page * PAGE));
    for span in spans {
        book.free(span).unwrap();
    }
    let again: Vec<_> = (0..8).map(|_| book.alloc(PAGE).unwrap().offset()).collect();
    assert_eq!(again, [7, 6, 5, 4, 3, 2, 1, 0].map(|page| page * PAGE));
}

#[test]
fn a_long_run_at_depth_touches_no_more_pages_than_the_depth() {
    let mut book = allocator();
    let mut live = std::collections::VecDeque::new();
    let mut highest = 0;
    for _ in 0..10_000 {
        if live.len() == 32 {
            book.free(live.pop_front().unwrap()).unwrap();
        }
        let span = book.alloc(PAGE).unwrap();
        highest = highest.max(span.offset() / PAGE);
        live.push_back(span);
    }
    assert_eq!(highest, 31);
}

#[test]
fn the_whole_arena_can_be_one_span_again_after_any_use() {
    let mut book = allocator();
    let singles: Vec<_> = (0..PAGES).map(|_| book.alloc(1).unwrap()).collect();
    assert_eq!(book.alloc(1), Err(NoSpan::Exhausted(1)));
    assert_eq!(book.used(), PAGES * PAGE);
    for span in singles {
        book.free(span).unwrap();
    }
    let all = book.alloc(PAGES * PAGE).unwrap();
    assert_eq!((all.offset(), all.len(), book.used()), (0, PAGES * PAGE, PAGES * PAGE));
    // The stack of hot pages is full of pages that are in use now: none of them is given out.
    assert_eq!(book.alloc(1), Err(NoSpan::Exhausted(1)));
}

#[test]
fn what_can_never_fit_is_told_from_what_does_not_fit_now() {
    let mut book = allocator();
    assert_eq!(book.alloc(0), Err(NoSpan::Empty));
    assert_eq!(book.alloc(PAGES * PAGE + 1), Err(NoSpan::TooLong(PAGES * PAGE + 1)));
    assert_eq!(book.alloc(u64::MAX), Err(NoSpan::TooLong(u64::MAX)));
    let mut big = ArenaAllocator::new(64 << 20);
    assert_eq!(big.alloc(LONGEST_SPAN + 1), Err(NoSpan::TooLong(LONGEST_SPAN + 1)));
    assert_eq!(big.alloc(LONGEST_SPAN).unwrap().offset(), 0);
    assert_eq!(ArenaAllocator::new(0).alloc(1), Err(NoSpan::TooLong(1)));
}

#[test]
fn a_span_of_an_older_arena_is_refused_and_changes_nothing() {
    let mut old = allocator();
    let _first = old.alloc(PAGE).unwrap();
    let second = old.alloc(3 * PAGE).unwrap();
    let mut new = allocator();
    let mine = new.alloc(2 * PAGE).unwrap();
    assert_eq!(new.free(second), Err(FreeError { offset: PAGE, len: 3 * PAGE }));
    assert_eq!(new.used(), 2 * PAGE);
    new.free(mine).unwrap();
    let beyond = ArenaSpan { first: PAGES as usize, len: 1 };
    assert!(new.free(beyond).is_err());
}

/// What a client does: asks for so many bytes, or gives back one of its spans.
#[derive(Debug, Clone)]
enum Act {
    Alloc(u64),
    Free(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let len = prop_oneof![4 => 1..=PAGE, 2 => 1..=32 * PAGE, 1 => 1..=PAGES * PAGE];
    let act = prop_oneof![len.prop_map(Act::Alloc), any::<usize>().prop_map(Act::Free)];
    prop::collection::vec(act, 1..300)
}

fn longest_free_run(taken: &[bool]) -> usize {
    taken.split(|taken| *taken).map(<[bool]>::len).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn spans_never_overlap_none_leaks_and_only_want_of_room_refuses(acts in acts()) {
        let mut book = allocator();
        let mut taken = vec![false; PAGES as usize];
        let mut live: Vec<ArenaSpan> = Vec::new();
        for act in acts {
            match act {
                Act::Alloc(len) => match book.alloc(len) {
                    Ok(span) => {
                        prop_assert_eq!(span.len(), len);
                        prop_assert_eq!(span.offset() % PAGE, 0);
                        let first = (span.offset() / PAGE) as usize;
                        for page in &mut taken[first..first + len.div_ceil(PAGE) as usize] {
                            prop_assert!(!*page, "page in two spans");
                            *page = true;
                        }
                        live.push(span);
                    }
                    Err(error) => {
                        prop_assert_eq!(error, NoSpan::Exhausted(len));
                        prop_assert!(longest_free_run(&taken) < len.div_ceil(PAGE) as usize);
                    }
                },
                Act::Free(which) if !live.is_empty() => {
                    let span = live.swap_remove(which % live.len());
                    let first = (span.offset() / PAGE) as usize;
                    taken[first..first + span.pages()].fill(false);
                    prop_assert_eq!(book.free(span), Ok(()));
                }
                Act::Free(_) => {}
            }
            let used = taken.iter().filter(|taken| **taken).count() as u64;
            prop_assert_eq!(book.used(), used * PAGE);
        }
        for span in live {
            book.free(span).unwrap();
        }
        prop_assert_eq!(book.alloc(PAGES * PAGE).unwrap().offset(), 0);
    }

    #[test]
    fn bits_are_found_as_a_plain_row_would_have_them(row in prop::collection::vec(any::<bool>(), 1..300)) {
        let mut bits = Bits::zeroes(row.len());
        for (at, _) in row.iter().enumerate().filter(|(_, bit)| **bit) {
            bits.set(at, 1);
        }
        for from in 0..row.len() + 70 {
            let one = row.iter().skip(from).position(|bit| *bit).map(|at| from + at);
            let zero = row.iter().skip(from).position(|bit| !*bit).map_or(row.len(), |at| from + at);
            prop_assert_eq!(bits.next_one(from), one);
            prop_assert_eq!(bits.next_zero(from), zero);
        }
    }
}
