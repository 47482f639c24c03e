//! The rules of waiting, with a clock made of numbers.

use super::*;

const fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Lets one wait on a shared CPU run to its end; `took` is what its yield takes. Whether it yielded.
fn wait_on_one_cpu(pace: &mut Pace, now: Duration, took: Duration) -> bool {
    let first = pace.next(true, now);
    if first == Step::YieldOnce {
        pace.yielded(took, now);
        assert_eq!(pace.next(true, now), Step::Arm, "a second yield in one wait");
    } else {
        assert_eq!(first, Step::Arm);
    }
    pace.found();
    first == Step::YieldOnce
}

/// Spins until told otherwise; how long that was.
fn spin_out(pace: &mut Pace, mut now: Duration) -> Duration {
    let start = now;
    while pace.next(false, now) == Step::Spin {
        now += micros(1);
    }
    now - start
}

#[test]
fn on_one_cpu_there_is_never_a_spin_and_one_yield_per_wait() {
    let mut pace = Pace::new();
    for n in 0..1000 {
        assert!(wait_on_one_cpu(&mut pace, micros(n * 10), micros(2)));
    }
}

#[test]
fn a_wait_that_goes_on_after_the_yield_stays_armed() {
    let mut pace = Pace::new();
    assert_eq!(pace.next(true, micros(1)), Step::YieldOnce);
    for n in 2..50 {
        assert_eq!(pace.next(true, micros(n)), Step::Arm);
    }
}

#[test]
fn one_slow_yield_stops_yielding_until_the_pause_is_over() {
    let mut pace = Pace::new();
    assert!(wait_on_one_cpu(&mut pace, millis(0), micros(51)));
    assert!(!wait_on_one_cpu(&mut pace, millis(1), micros(51)));
    assert!(!wait_on_one_cpu(&mut pace, millis(99), micros(51)));
    assert!(wait_on_one_cpu(&mut pace, millis(100), micros(2)));
    assert!(wait_on_one_cpu(&mut pace, millis(101), micros(2)));
}

#[test]
fn a_yield_of_exactly_the_limit_is_not_slow() {
    let mut pace = Pace::new();
    assert!(wait_on_one_cpu(&mut pace, millis(0), micros(50)));
    assert!(wait_on_one_cpu(&mut pace, millis(0), micros(50)));
}

#[test]
fn the_pauses_double_beside_a_busy_thread_and_end_at_the_longest() {
    let mut pace = Pace::new();
    let mut yields = Vec::new();
    for now in 0..10_000 {
        if wait_on_one_cpu(&mut pace, millis(now), millis(4)) {
            yields.push(now);
        }
    }
    assert_eq!(yields, [0, 100, 300, 700, 1500, 3100, 4700, 6300, 7900, 9500]);
}

#[test]
fn a_quick_yield_makes_the_next_pause_short_again() {
    let mut pace = Pace::new();
    assert!(wait_on_one_cpu(&mut pace, millis(0), millis(4)));
    assert!(wait_on_one_cpu(&mut pace, millis(100), millis(4)));
    assert!(wait_on_one_cpu(&mut pace, millis(300), micros(1)));
    assert!(wait_on_one_cpu(&mut pace, millis(301), millis(4)));
    assert!(wait_on_one_cpu(&mut pace, millis(401), micros(1)));
}

#[test]
fn on_two_cpus_a_wait_spins_for_the_time_of_a_wake_up_and_then_arms() {
    let mut pace = Pace::new();
    assert_eq!(spin_out(&mut pace, millis(5)), SPIN);
    assert_eq!(pace.next(false, millis(6)), Step::Arm);
    pace.found();
    assert_eq!(pace.next(false, millis(7)), Step::Spin);
}

#[test]
fn spins_that_find_work_go_on_for_ever() {
    let mut pace = Pace::new();
    for n in 0..1000 {
        assert_eq!(pace.next(false, micros(n * 100)), Step::Spin);
        assert_eq!(pace.next(false, micros(n * 100 + 49)), Step::Spin);
        pace.found();
    }
}

#[test]
fn after_spins_in_vain_only_every_sixteenth_wait_spins() {
    let mut pace = Pace::new();
    let mut spun = Vec::new();
    for n in 0..40 {
        if !spin_out(&mut pace, millis(n)).is_zero() {
            spun.push(n);
        }
        pace.found();
    }
    assert_eq!(spun, [0, 1, 2, 3, 19, 35]);
}

#[test]
fn one_spin_that_finds_work_brings_spinning_back() {
    let mut pace = Pace::new();
    for n in 0..19 {
        let _in_vain = spin_out(&mut pace, millis(n));
        pace.found();
    }
    assert_eq!(pace.next(false, millis(19)), Step::Spin);
    pace.found();
    assert_eq!(pace.next(false, millis(20)), Step::Spin);
}

#[test]
fn a_thread_moved_to_the_peers_cpu_stops_spinning_at_once() {
    let mut pace = Pace::new();
    assert_eq!(pace.next(false, micros(0)), Step::Spin);
    assert_eq!(pace.next(true, micros(1)), Step::Arm);
}
