//! A helper's end against a supervisor's end in the same process.

use serde::{Deserialize, Serialize};

use super::*;

/// Commands with a descriptor, events without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Word {
    Plan(u32),
    Said(String),
}

impl Message for Word {
    fn fd_count(&self) -> usize {
        usize::from(matches!(self, Self::Plan(_)))
    }
}

fn pair() -> (Helper<Word, Word>, Channel) {
    let (ours, theirs) = Channel::pair().unwrap();
    (Helper::new(ours), theirs)
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

fn heard(supervisor: &Channel) -> FromHelper<Word> {
    supervisor.receive_by(soon()).unwrap().0
}

#[test]
fn a_plan_arrives_with_its_descriptors_and_heartbeats_before_it_are_answered() {
    let (helper, supervisor) = pair();
    supervisor.send(&ToHelper::<Word>::Heartbeat(7), &[]).unwrap();
    let fd = std::fs::File::open("/dev/null").unwrap();
    supervisor.send(&ToHelper::Role(Word::Plan(3)), &[fd.as_fd()]).unwrap();
    let (plan, fds) = helper.plan(soon()).unwrap();
    assert_eq!((plan, fds.len()), (Word::Plan(3), 1));
    assert!(matches!(heard(&supervisor), FromHelper::Alive { number: 7, progress: 0 }));
}

#[test]
fn stop_and_a_closed_channel_before_the_plan_end_it_without_fault() {
    let (helper, supervisor) = pair();
    supervisor.send(&ToHelper::<Word>::Stop, &[]).unwrap();
    assert!(matches!(helper.plan(soon()), Err(RuntimeError::Closed)));
    drop(supervisor);
    assert!(matches!(helper.plan(soon()), Err(RuntimeError::Closed)));
    assert!(matches!(helper.try_receive(), Err(RuntimeError::Closed)));
    assert!(matches!(helper.ready(), Err(RuntimeError::Closed)));
}

#[test]
fn silence_before_the_plan_ends_at_the_deadline() {
    let (helper, _supervisor) = pair();
    let deadline = Deadline::after(Duration::from_millis(5));
    let error = helper.plan(deadline).unwrap_err();
    assert!(matches!(error, RuntimeError::Channel(bulkhead_channel::ChannelError::Deadline)));
}

#[test]
fn messages_are_told_apart_and_none_is_no_error() {
    let (helper, supervisor) = pair();
    assert!(helper.try_receive().unwrap().is_none());
    supervisor.send(&ToHelper::<Word>::Heartbeat(1), &[]).unwrap();
    supervisor.send(&ToHelper::Role(Word::Said("go".into())), &[]).unwrap();
    supervisor.send(&ToHelper::<Word>::Stop, &[]).unwrap();
    assert!(matches!(helper.try_receive(), Ok(Some(Incoming::Heartbeat(1)))));
    let role = helper.try_receive().unwrap();
    assert!(
        matches!(role, Some(Incoming::Role(Word::Said(word), fds)) if word == "go" && fds.is_empty())
    );
    assert!(matches!(helper.try_receive(), Ok(Some(Incoming::Stop))));
}

#[test]
fn what_a_helper_says_arrives_in_order() {
    let (helper, supervisor) = pair();
    helper.ready().unwrap();
    helper.alive(4, 99).unwrap();
    helper.event(&Word::Said("done".into())).unwrap();
    assert!(matches!(heard(&supervisor), FromHelper::Ready));
    assert!(matches!(heard(&supervisor), FromHelper::Alive { number: 4, progress: 99 }));
    assert!(matches!(heard(&supervisor), FromHelper::Role(Word::Said(word)) if word == "done"));
}

#[test]
fn an_event_with_too_few_descriptors_is_not_sent() {
    let (helper, supervisor) = pair();
    assert!(matches!(helper.event(&Word::Plan(1)), Err(RuntimeError::Channel(_))));
    assert!(supervisor.try_receive::<FromHelper<Word>>().unwrap().is_none());
}
