//! The table of flights.

use std::sync::Arc;

use super::NodeId;
use crate::lane::ToLane;
use crate::mailbox::Mailbox;
use crate::node::Operands;

/// A flight's number. Numbers come again, but with another generation: news for a flight that is
/// over reaches nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlightId {
    place: usize,
    generation: u64,
}

/// One request at one node.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) node: NodeId,
    pub(super) operands: Operands,
    pub(super) requester: Requester,
}

/// Who asked.
#[derive(Debug)]
pub(super) enum Requester {
    /// A lane, for its ring.
    Lane { lane: Arc<Mailbox<ToLane>>, tag: u64 },
    /// A node, for a flight of its own.
    Flight(FlightId),
}

#[derive(Debug, Default)]
pub(super) struct Flights {
    places: Vec<Option<(u64, Flight)>>,
    free: Vec<usize>,
    /// Flights begun so far.
    begun: u64,
}

impl Flights {
    pub(super) fn insert(&mut self, flight: Flight) -> FlightId {
        self.begun += 1;
        let entry = Some((self.begun, flight));
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
        FlightId { place, generation: self.begun }
    }

    pub(super) fn get(&self, id: FlightId) -> Option<&Flight> {
        match self.places.get(id.place)? {
            Some((generation, flight)) if *generation == id.generation => Some(flight),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, id: FlightId) -> Option<Flight> {
        self.get(id)?;
        let (_, flight) = self.places.get_mut(id.place)?.take()?;
        self.free.push(id.place);
        Some(flight)
    }
}
