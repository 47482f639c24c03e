//! The table of clients, and which of them are to be served next.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use bulkhead_ring::Arena;
use bulkhead_sys::poller::{Event, Interest, Token};
use rustls::ServerConfig;

use crate::client::Client;
use crate::limits::MOST_CLIENTS;
use crate::owner::Owner;

/// Tokens below are not clients'.
const FIRST: Token = 16;

/// See the module.
#[derive(Debug, Default)]
pub struct Clients {
    places: Vec<Place>,
    /// Places of clients to be served, each once.
    due: Vec<u32>,
    living: usize,
}

#[derive(Debug, Default)]
struct Place {
    uses: u32,
    client: Option<Client>,
    is_due: bool,
}

/// What the poller calls a client.
pub fn token(owner: Owner) -> Token {
    FIRST + (Token::from(owner.uses) << 32 | Token::from(owner.place))
}

impl Clients {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.living == 0
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.living
    }

    /// Whether some are to be served.
    pub fn are_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Who has to go if one more is to come: if all places are taken, the one that has negotiated for
    /// longest.
    pub fn to_be_displaced(&self) -> Option<u32> {
        if self.living < MOST_CLIENTS {
            return None;
        }
        let since = |place: &Place| place.client.as_ref().and_then(Client::negotiates_since);
        let negotiating =
            (0..).zip(&self.places).filter_map(|(at, place)| Some((since(place)?, at)));
        negotiating.min().map(|(_, place)| place)
    }

    /// Takes a newcomer in; `None`: there is no place.
    pub fn admit(
        &mut self,
        socket: OwnedFd,
        tls: Option<Arc<ServerConfig>>,
        now: Instant,
    ) -> Option<(Token, &mut Client)> {
        if self.living >= MOST_CLIENTS {
            return None;
        }
        let free = self.places.iter().position(|place| place.client.is_none());
        let at = free.unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() - 1
        });
        self.living += 1;
        let place = self.places.get_mut(at)?;
        place.uses = place.uses.wrapping_add(1);
        let owner = Owner { place: at as u32, uses: place.uses };
        // It is served at once: the greeting is the first word.
        if !std::mem::replace(&mut place.is_due, true) {
            self.due.push(owner.place);
        }
        Some((token(owner), place.client.insert(Client::new(owner, socket, tls, now))))
    }

    /// The client in a place.
    pub fn at(&mut self, place: u32) -> Option<&mut Client> {
        self.places.get_mut(place as usize)?.client.as_mut()
    }

    /// The client that owns something, unless it is gone.
    pub fn of(&mut self, owner: Owner) -> Option<&mut Client> {
        self.at(owner.place).filter(|client| client.owner() == owner)
    }

    /// Takes a client out.
    pub fn remove(&mut self, place: u32) -> Option<Client> {
        let client = self.places.get_mut(place as usize)?.client.take()?;
        self.living -= 1;
        Some(client)
    }

    /// A client's socket has news.
    pub fn note(&mut self, event: &Event) {
        let number = event.token.wrapping_sub(FIRST);
        let owner = Owner { place: number as u32, uses: (number >> 32) as u32 };
        if let Some(client) = self.of(owner) {
            // Nobody reads from it now, so that it is watched for this alone.
            let hung_up = event.hung_up && client.watched == Some(Interest::HangUp);
            if hung_up {
                client.leave();
            }
            client.news();
            self.wake(owner.place);
        }
    }

    /// This one is to be served.
    pub fn wake(&mut self, place: u32) {
        if let Some(entry) = self.places.get_mut(place as usize)
            && !std::mem::replace(&mut entry.is_due, true)
        {
            self.due.push(place);
        }
    }

    /// There may be room again: all that wait for some are to be served.
    pub fn wake_blocked(&mut self) {
        for place in 0..self.places.len() as u32 {
            if self.at(place).is_some_and(|client| client.is_blocked()) {
                self.wake(place);
            }
        }
    }

    /// Those that are to be served, who are not any more.
    pub fn take_due(&mut self) -> Vec<u32> {
        let due = std::mem::take(&mut self.due);
        for place in &due {
            if let Some(entry) = self.places.get_mut(*place as usize) {
                entry.is_due = false;
            }
        }
        due
    }

    /// Those that have taken too long.
    pub fn late(&self, now: Instant) -> Vec<u32> {
        let late = |place: &Place| place.client.as_ref().is_some_and(|client| client.is_late(now));
        (0..).zip(&self.places).filter_map(|(at, place)| late(place).then_some(at)).collect()
    }

    /// Block-layer was replaced.
    pub fn moved(&self, old: &Arena, new: &Arena) {
        self.places
            .iter()
            .filter_map(|place| place.client.as_ref())
            .for_each(|client| client.moved(old, new));
    }
}
