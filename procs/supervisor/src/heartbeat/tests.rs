use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Ticks until something other than `Wait` comes out.
fn until_news(heart: &mut Heartbeat, tick: Tick, most: u32) -> (u32, Beat) {
    for count in 1..=most {
        match heart.tick(tick) {
            Beat::Wait | Beat::Suspect => {}
            news => return (count, news),
        }
    }
    (most, Beat::Wait)
}

#[test]
fn a_silent_helper_is_found_within_a_second_of_its_last_answer() {
    let now = Instant::now();
    let mut heart = Heartbeat::new(now);
    assert_eq!(heart.tick(Tick::OnTime), Beat::Send(1));
    heart.answered(now, 1, 0);
    let (asked, beat) = until_news(&mut heart, Tick::OnTime, 100);
    assert_eq!(beat, Beat::Send(2));
    let (missed, beat) = until_news(&mut heart, Tick::OnTime, 100);
    assert_eq!(beat, Beat::Missed);
    assert!((asked + missed) * TICK < Duration::from_secs(1));
}

#[test]
fn a_helper_that_answers_is_asked_every_quarter_second_and_never_missed() {
    let now = Instant::now();
    let mut heart = Heartbeat::new(now);
    let mut sent = 0;
    for _ in 0..1_000 {
        match heart.tick(Tick::OnTime) {
            Beat::Send(number) => {
                sent += 1;
                assert_ne!(heart.answered(now, number, 0), Answer::Nonsense);
            }
            beat => assert_eq!(beat, Beat::Wait),
        }
    }
    assert_eq!(sent, 500);
}

#[test]
fn a_late_supervisor_kills_nobody_however_long_the_silence() {
    let mut heart = Heartbeat::new(Instant::now());
    heart.tick(Tick::OnTime);
    for _ in 0..10_000 {
        assert_eq!(heart.tick(Tick::Late), Beat::Wait);
    }
}

#[test]
fn one_late_tick_gives_the_whole_patience_again() {
    let mut heart = Heartbeat::new(Instant::now());
    heart.tick(Tick::OnTime);
    for _ in 0..PATIENCE - 1 {
        assert_ne!(heart.tick(Tick::OnTime), Beat::Missed);
    }
    heart.tick(Tick::Late);
    assert_eq!(until_news(&mut heart, Tick::OnTime, 100), (PATIENCE, Beat::Missed));
}

/// A helper that was silent until it was missed, with its load noted when it became suspicious.
fn silent(before: Load) -> Heartbeat {
    let mut heart = Heartbeat::new(Instant::now());
    loop {
        match heart.tick(Tick::OnTime) {
            Beat::Suspect => heart.note(before),
            Beat::Missed => return heart,
            _ => {}
        }
    }
}

fn load(runnable: bool, used: u64) -> Load {
    Load { runnable, used: ms(used) }
}

#[test]
fn a_helper_that_starves_is_given_the_whole_patience_again() {
    let mut heart = silent(load(true, 1_000));
    assert!(!heart.hangs(Some(load(true, 1_010))));
    assert_eq!(until_news(&mut heart, Tick::OnTime, 100), (PATIENCE, Beat::Missed));
}

#[test]
fn a_helper_that_sleeps_stops_or_loops_hangs() {
    for (before, now) in [
        (load(false, 1_000), load(false, 1_000)),
        (load(true, 1_000), load(false, 1_010)),
        (load(true, 1_000), load(true, 1_370)),
    ] {
        assert!(silent(before).hangs(Some(now)), "{before:?} {now:?}");
    }
    assert!(silent(load(true, 0)).hangs(None), "nothing to be seen");
}

#[test]
fn an_answer_at_the_last_moment_saves() {
    let mut heart = silent(load(false, 0));
    heart.answered(Instant::now(), 1, 0);
    assert!(!heart.hangs(Some(load(false, 0))));
}

#[test]
fn progress_or_a_tenth_of_a_second_makes_an_incarnation_well() {
    let now = Instant::now();
    for (later, progress, answer) in [
        (ms(0), 0, Answer::Alive),
        (ms(99), 0, Answer::Alive),
        (ms(0), 1, Answer::Well),
        (ms(100), 0, Answer::Well),
    ] {
        let mut heart = Heartbeat::new(now);
        heart.tick(Tick::OnTime);
        assert_eq!(heart.answered(now + later, 1, progress), answer);
    }
}

#[test]
fn an_answer_to_what_was_never_asked_is_nonsense() {
    let now = Instant::now();
    let mut heart = Heartbeat::new(now);
    assert_eq!(heart.answered(now, 1, 0), Answer::Nonsense);
    heart.tick(Tick::OnTime);
    assert_eq!(heart.answered(now, 2, 0), Answer::Nonsense);
    assert_eq!(heart.answered(now, 1, 0), Answer::Alive);
    assert_eq!(heart.answered(now, 1, 0), Answer::Nonsense);
}

#[test]
fn a_metronome_says_which_ticks_came_late() {
    let start = Instant::now();
    let mut metronome = Metronome::new(start);
    assert_eq!(metronome.tick(start + ms(124)), None);
    assert_eq!(metronome.tick(start + ms(126)), Some(Tick::OnTime));
    assert_eq!(metronome.due(), start + ms(251));
    assert_eq!(metronome.tick(start + ms(9_000)), Some(Tick::Late), "a suspend is one late tick");
    assert_eq!(metronome.due(), start + ms(9_125));
}
