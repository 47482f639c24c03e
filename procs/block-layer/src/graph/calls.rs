//! The table of calls that workers have, for the tasks that wait for them.

use std::task::{Poll, Waker};

use crate::outcome::Outcome;

/// A call's number. Places come again, but with another generation: an answer to a call that nobody
/// waits for any more reaches nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId {
    place: usize,
    generation: u64,
}

#[derive(Debug)]
enum State {
    Free,
    Waiting(Option<Waker>),
    Answered(Outcome),
}

#[derive(Debug, Default)]
pub(super) struct Calls {
    places: Vec<(u64, State)>,
    free: Vec<usize>,
    /// Calls made so far.
    made: u64,
}

impl Calls {
    pub(super) fn insert(&mut self) -> CallId {
        self.made += 1;
        let entry = (self.made, State::Waiting(None));
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place] = entry;
                place
            }
            None => {
                self.places.push(entry);
                self.places.len() - 1
            }
        };
        CallId { place, generation: self.made }
    }

    pub(super) fn answer(&mut self, id: CallId, outcome: Outcome) {
        if let Some((generation, state)) = self.places.get_mut(id.place)
            && *generation == id.generation
            && let State::Waiting(waker) = std::mem::replace(state, State::Answered(outcome))
            && let Some(waker) = waker
        {
            waker.wake();
        }
    }

    pub(super) fn poll(&mut self, id: CallId, waker: &Waker) -> Poll<Outcome> {
        let (_, state) = &mut self.places[id.place];
        if let State::Answered(outcome) = *state {
            *state = State::Free;
            self.free.push(id.place);
            return Poll::Ready(outcome);
        }
        *state = State::Waiting(Some(waker.clone()));
        Poll::Pending
    }
}
