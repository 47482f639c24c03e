//! The state machine: connections come and go on one side, the driver starts and resets the device on
//! the other, and this brings the two together. How queues are started and stopped is in `queues.rs`.

mod queues;

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use bulkhead_virtio_transport::{Activation, QueueBells};

use crate::backend_requests::BackendRequests;
use crate::event::{Event, Loss, Offer};
use crate::exchange::{Exchange, Purpose};
use crate::fault::Fault;
use crate::handshake::{Handshake, Needs};
use crate::message::Message;
use crate::phase::{Driver, Link, Phase};
use crate::plan::{InflightTable, Plan, SharedRam};
use crate::reply::Reply;

/// What a new backend comes with.
#[derive(Debug)]
pub struct Connection {
    /// The connected vhost-user socket.
    pub socket: OwnedFd,
    /// Our end and the backend's end of the channel for the backend's own requests.
    pub requests: Option<(OwnedFd, OwnedFd)>,
}

/// One device's frontend.
pub struct Frontend {
    plan: Plan,
    ram: SharedRam,
    bells: Vec<QueueBells>,
    /// Present for backends of our own, which can be resumed.
    inflight: Option<InflightTable>,
    /// What the guest was offered.
    offer: Option<Offer>,
    driver: Driver,
    link: Option<Link>,
    /// The last backend is known to be gone for good, its process reaped.
    is_reaped: bool,
    events: VecDeque<Event>,
}

impl Frontend {
    /// A device without backend. `bells` has one entry for each of the plan's queues; `inflight` is
    /// given for backends of our own.
    pub fn new(
        plan: Plan,
        ram: SharedRam,
        bells: Vec<QueueBells>,
        inflight: Option<InflightTable>,
    ) -> Self {
        Self {
            plan,
            ram,
            bells,
            inflight,
            offer: None,
            driver: Driver::Down,
            link: None,
            is_reaped: true,
            events: VecDeque::new(),
        }
    }

    /// A backend is there; the one before is dead and reaped. Watch [`Frontend::sockets`] for reading
    /// and call [`Frontend::advance`].
    pub fn connect(&mut self, connection: Connection, now: Instant) {
        self.disconnect();
        self.is_reaped = false;
        let (ours, theirs) = connection.requests.unzip();
        let mut exchange = Exchange::new(connection.socket, now);
        let needs = Needs { inflight: self.inflight.is_some(), log: self.ram.written.is_some() };
        let handshake = Handshake::begin(&mut exchange, &self.plan, theirs, needs, now);
        self.link = Some(Link {
            exchange,
            handshake,
            requests: ours.map(BackendRequests::new),
            phase: Phase::Shaking,
            knows_memory: false,
            config_changed: false,
        });
    }

    /// The backend's process is dead and reaped: it touches nothing any more.
    pub fn disconnect(&mut self) {
        if self.link.is_some() {
            self.lose(None);
        }
        self.is_reaped = true;
        self.leave_if_gone();
    }

    /// The driver is ready: run these queues, now or as soon as there is a backend. Ignored unless the
    /// device is reset.
    pub fn start(&mut self, activation: Activation, now: Instant) {
        if matches!(self.driver, Driver::Down) {
            self.driver = Driver::Fresh(activation);
            self.settle(now);
        }
    }

    /// The driver resets the device. Answered by [`Event::Stopped`].
    pub fn stop(&mut self, now: Instant) {
        match std::mem::replace(&mut self.driver, Driver::Down) {
            Driver::Down | Driver::Ruined => self.events.push_back(Event::Stopped),
            Driver::Fresh(activation) | Driver::Running(activation) => {
                self.driver = Driver::Leaving(activation);
                self.settle(now);
                self.leave_if_gone();
            }
            leaving @ Driver::Leaving(_) => self.driver = leaving,
        }
    }

    /// Does what can be done without waiting, and says what happened: to be called again until it says
    /// nothing, whenever a socket has news, the deadline has passed or another method was called.
    pub fn advance(&mut self, now: Instant) -> Option<Event> {
        if self.events.is_empty() {
            if let Err(fault) = self.listen(now) {
                self.lose(Some(fault));
            }
            self.settle(now);
            if let Err(fault) = self.flush(now) {
                self.lose(Some(fault));
            }
        }
        self.events.pop_front()
    }

    /// When to call [`Frontend::advance`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.link.as_ref()?.exchange.deadline()
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// Whether there is a backend that marks what it writes in the log of written pages.
    pub fn logs_writes(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.handshake.logs())
    }

    /// What the guest was offered, once a backend has shaken hands.
    pub fn offer(&self) -> Option<&Offer> {
        self.offer.as_ref()
    }

    /// The sockets to watch for reading, from [`Frontend::connect`] until [`Event::Lost`].
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let link = self.link.as_ref();
        let requests = link.and_then(|link| link.requests.as_ref()).map(BackendRequests::socket);
        link.map(|link| link.exchange.socket()).into_iter().chain(requests)
    }

    fn listen(&mut self, now: Instant) -> Result<(), Fault> {
        let Some(link) = &mut self.link else { return Ok(()) };
        while let Some((request, reply)) = link.exchange.next(now)? {
            if link.phase == Phase::Shaking {
                link.handshake.hear(request, reply, &mut link.exchange, &self.plan, now)?;
                continue;
            }
            match reply {
                Reply::Config(config) => {
                    let config = link.handshake.check_config(config, &self.plan)?;
                    note_config(&mut self.offer, &mut self.events, config);
                }
                reply => check(&reply, link, &self.plan)?,
            }
        }
        if let Some(requests) = &mut link.requests {
            link.config_changed |= requests.take()?;
        }
        self.finish_handshake()
    }

    /// Sends what was asked just now.
    fn flush(&mut self, now: Instant) -> Result<(), Fault> {
        self.link.as_mut().map_or(Ok(()), |link| link.exchange.flush(now))
    }

    fn finish_handshake(&mut self) -> Result<(), Fault> {
        let Some(link) = self.link.as_mut().filter(|link| link.phase == Phase::Shaking) else {
            return Ok(());
        };
        let Some(offer) = link.handshake.finish(&link.exchange, &self.plan)? else { return Ok(()) };
        if let Some(before) = self.offer.as_ref().map(|before| before.features)
            && before != offer.features
        {
            return Err(Fault::FeaturesChanged { before, after: offer.features });
        }
        if !link.handshake.has_requests() {
            link.requests = None;
            link.handshake.close_requests();
        }
        link.phase = Phase::Idle;
        self.events.push_back(Event::Up(offer.clone()));
        match self.offer {
            Some(_) => note_config(&mut self.offer, &mut self.events, offer.config),
            None => self.offer = Some(offer),
        }
        Ok(())
    }

    /// Moves on as far as phase and driver allow.
    fn settle(&mut self, now: Instant) {
        loop {
            let Some(link) = &mut self.link else { return };
            let is_started = link.exchange.is_done(Purpose::Start);
            match (link.phase, &self.driver) {
                (Phase::Shaking, Driver::Leaving(_)) => self.left(),
                (Phase::Idle, Driver::Leaving(_)) => self.left(),
                (Phase::Idle, Driver::Fresh(_)) if self.inflight.is_some() => {
                    self.clear_inflight(now)
                }
                (Phase::Clearing, Driver::Leaving(_)) if is_started => link.phase = Phase::Idle,
                (Phase::Idle | Phase::Clearing, Driver::Fresh(_)) if is_started => {
                    self.run_queues(now)
                }
                (Phase::Idle, Driver::Running(_)) => self.run_queues(now),
                (Phase::Starting { resumed }, Driver::Running(_)) if is_started => {
                    self.serving(resumed)
                }
                (Phase::Starting { .. } | Phase::Serving, Driver::Leaving(_)) => {
                    self.stop_queues(now)
                }
                (Phase::Stopping, _) if link.exchange.is_done(Purpose::Stop) => {
                    link.phase = Phase::Idle
                }
                _ => break,
            }
        }
        self.read_changed_config(now);
    }

    fn read_changed_config(&mut self, now: Instant) {
        let Some(link) = self.link.as_mut().filter(|link| link.config_changed) else { return };
        if link.phase == Phase::Shaking || !link.exchange.is_done(Purpose::Config) {
            return;
        }
        link.config_changed = false;
        if self.plan.device.config.len > 0 {
            let question = Message::get_config(self.plan.device.config.len);
            link.exchange.ask(question, Purpose::Config, self.plan.patience.reply, now);
        }
    }

    fn left(&mut self) {
        self.driver = Driver::Down;
        self.events.push_back(Event::Stopped);
    }

    /// Completes a reset for which there is no backend. One of our own must be reaped first: until then
    /// it may still write to guest memory. One of somebody else's cannot be waited for.
    fn leave_if_gone(&mut self) {
        let is_gone = self.link.is_none() && (self.is_reaped || self.inflight.is_none());
        if is_gone && matches!(self.driver, Driver::Leaving(_)) {
            self.left();
        }
    }

    fn lose(&mut self, fault: Option<Fault>) {
        self.link = None;
        let is_running = matches!(self.driver, Driver::Running(_));
        let needs_reset = is_running && self.inflight.is_none();
        if needs_reset {
            self.driver = Driver::Ruined;
        }
        self.events.push_back(Event::Lost(Loss { fault, needs_reset }));
        self.leave_if_gone();
    }
}

/// Remembers a configuration space, and tells of it if it is another than before.
fn note_config(offer: &mut Option<Offer>, events: &mut VecDeque<Event>, config: Vec<u8>) {
    if let Some(offer) = offer.as_mut().filter(|offer| offer.config != config) {
        offer.config.clone_from(&config);
        events.push_back(Event::ConfigChanged(config));
    }
}

/// Checks an answer that came after the handshake against what was said before.
fn check(reply: &Reply, link: &Link, plan: &Plan) -> Result<(), Fault> {
    match *reply {
        Reply::Number(after) if after != link.handshake.features() => {
            Err(Fault::FeaturesChanged { before: link.handshake.features(), after })
        }
        Reply::Inflight { queues, queue_size }
            if queues != plan.queues || queue_size != plan.queue_size =>
        {
            Err(Fault::InflightShape { queues, queue_size })
        }
        Reply::Base { index, base } if index >= plan.queues.into() || base > u16::MAX.into() => {
            Err(Fault::Base { index, base })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
