//! Rates over simulated time.

use bulkhead_protocol::filters::Limit;

use super::*;

fn passed(limits: Limits, write: bool, bytes: u64, seconds: u64) -> u64 {
    let mut state = State::default();
    let throttle = Throttle::new(limits);
    std::mem::swap(&mut state, &mut *throttle.state.borrow_mut());
    let (mut now, mut count) = (Duration::ZERO, 0);
    while now < Duration::from_secs(seconds) {
        match state.pass(write, bytes, now) {
            None => count += 1,
            Some(wait) => now += wait.max(Duration::from_nanos(1)),
        }
    }
    count
}

fn average(average: u64) -> Limit {
    Limit { average, ..Limit::default() }
}

#[test]
fn the_average_is_kept_over_time() {
    let limits = Limits { requests: average(100), ..Limits::default() };
    let count = passed(limits, false, 4096, 60);
    assert!((6000..=6012).contains(&count), "{count}");
    let limits = Limits { written_bytes: average(1 << 20), ..Limits::default() };
    let count = passed(limits, true, 65536, 60);
    assert!((960..=965).contains(&count), "{count}");
}

#[test]
fn a_burst_lasts_as_long_as_it_may_and_at_its_own_rate() {
    let burst = Limit { average: 100, burst: 1000, burst_seconds: 10 };
    let limits = Limits { requests: burst, ..Limits::default() };
    // Ten thousand fill the bucket while it leaks a hundred a second: a little over eleven seconds.
    let count = passed(limits, false, 512, 8);
    assert!((8000..=8110).contains(&count), "{count}");
    let count = passed(limits, false, 512, 60);
    assert!((15_900..=16_110).contains(&count), "{count}");
}

#[test]
fn reads_do_not_count_as_writes_and_large_requests_count_more_than_once() {
    let limits = Limits { writes: average(10), ..Limits::default() };
    let mut state = State::default();
    std::mem::swap(&mut state, &mut *Throttle::new(limits).state.borrow_mut());
    for _ in 0..1000 {
        assert_eq!(state.pass(false, 4096, Duration::ZERO), None);
    }
    let limits = Limits { requests: average(100), request_size: 4096, ..Limits::default() };
    let count = passed(limits, true, 16384, 60);
    assert!((1500..=1505).contains(&count), "{count}");
}
