use super::*;

const SEGV: Death = Death::Signaled(libc::SIGSEGV);
const KILL: Death = Death::Signaled(libc::SIGKILL);
const SYS: Death = Death::Signaled(libc::SIGSYS);

/// A post and a clock that only the test moves.
struct Bench {
    restart: Restart,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { restart: Restart::default(), now: Instant::now() }
    }

    fn dies_after(&mut self, time: Duration, death: Death) -> Verdict {
        self.now += time;
        self.restart.died(self.now, Cause::of(death, false))
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn the_first_successor_comes_at_once_and_the_next_ones_after_doubling_waits() {
    let mut post = Bench::new();
    let step = ms(2_400);
    assert_eq!(post.dies_after(step, SEGV), Verdict::Now);
    for wait in [10, 20, 40] {
        assert_eq!(post.dies_after(step, SEGV), Verdict::After(ms(wait)));
    }
}

#[test]
fn the_wait_never_exceeds_five_seconds() {
    let mut post = Bench::new();
    let slow = ms(2_600);
    let waits: Vec<_> = (0..14).map(|_| post.dies_after(slow, SEGV)).collect();
    assert_eq!(waits[9], Verdict::After(ms(2_560)));
    assert_eq!(waits[10..], [Verdict::After(LONGEST_BACK_OFF); 4], "10 ms·2⁹ is 5.12 s");
}

#[test]
fn five_faults_in_ten_seconds_degrade_and_it_is_tried_every_thirty_seconds_for_ever() {
    let mut post = Bench::new();
    for _ in 0..4 {
        assert!(!matches!(post.dies_after(ms(2_000), SEGV), Verdict::Degraded(_)));
    }
    for _ in 0..100 {
        assert_eq!(post.dies_after(ms(2_000), SEGV), Verdict::Degraded(ms(30_000)));
    }
    assert!(post.restart.is_degraded());
}

#[test]
fn faults_further_apart_than_the_window_never_degrade() {
    let mut post = Bench::new();
    for _ in 0..50 {
        assert!(!matches!(post.dies_after(ms(2_501), SEGV), Verdict::Degraded(_)));
    }
}

#[test]
fn progress_makes_the_past_forgotten_even_when_degraded() {
    let mut post = Bench::new();
    for _ in 0..5 {
        post.dies_after(ms(1), SEGV);
    }
    assert!(post.restart.is_degraded());
    post.restart.progressed();
    assert!(!post.restart.is_degraded());
    assert_eq!(post.dies_after(ms(1), SEGV), Verdict::Now);
    assert_eq!(post.dies_after(ms(1), SEGV), Verdict::After(ms(10)));
}

#[test]
fn a_sigkill_from_outside_never_counts() {
    let mut post = Bench::new();
    for _ in 0..1_000 {
        assert_eq!(post.dies_after(ms(1), KILL), Verdict::Now);
    }
    assert_eq!(post.dies_after(ms(1), SEGV), Verdict::Now);
}

#[test]
fn a_sigkill_of_ours_is_the_helpers_own_fault() {
    assert_eq!(Cause::of(KILL, true), Cause::OwnFault);
    assert_eq!(Cause::of(KILL, false), Cause::Outside);
}

#[test]
fn every_other_death_is_its_own_fault_even_exit_status_zero() {
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGABRT] {
        assert_eq!(Cause::of(Death::Signaled(signal), false), Cause::OwnFault);
    }
    for status in [0, 1, 101] {
        assert_eq!(Cause::of(Death::Exited(status), false), Cause::OwnFault);
    }
}

#[test]
fn the_filter_kills_once_with_a_successor_and_twice_without() {
    let mut post = Bench::new();
    assert_eq!(post.dies_after(ms(1), SYS), Verdict::Now);
    post.restart.progressed();
    assert_eq!(post.dies_after(ms(100_000), SYS), Verdict::Quarantined);
    post.restart.progressed();
    assert!(post.restart.is_quarantined());
    assert_eq!(post.dies_after(ms(1), KILL), Verdict::Quarantined);
}

#[test]
fn a_kill_while_degraded_is_tried_again_at_once() {
    let mut post = Bench::new();
    for _ in 0..5 {
        post.dies_after(ms(1), SEGV);
    }
    assert_eq!(post.dies_after(ms(1), KILL), Verdict::Now);
    assert_eq!(post.dies_after(ms(1), SEGV), Verdict::Degraded(ms(30_000)));
}

#[test]
fn one_that_waits_for_something_outside_is_tried_as_often_as_that_allows() {
    let mut post = Bench::new();
    for _ in 0..100 {
        post.now += ms(1);
        let verdict = post.restart.died(post.now, Cause::Retired(ms(70)));
        assert_eq!(verdict, Verdict::After(ms(70)));
    }
    assert_eq!(post.dies_after(ms(1), SEGV), Verdict::Now, "nothing of that counts");
}
