//! Starting and stopping a device's queues on a connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bulkhead_memory::GuestRange;
use bulkhead_virtio_transport::{Activation, QueueRings};
use vhost::vhost_user::message::FrontendReq;

use super::Frontend;
use crate::attached::Attached;
use crate::event::Event;
use crate::exchange::Purpose;
use crate::fault::Fault;
use crate::handshake::{LOG_ALL, PROTOCOL_FEATURES};
use crate::message::Message;
use crate::phase::{Driver, Phase};

impl Frontend {
    pub(super) fn clear_inflight(&mut self, now: Instant) {
        let Some(link) = &mut self.link else { return };
        let question = Message::get_inflight(self.plan.queues, self.plan.queue_size);
        link.exchange.ask(question, Purpose::Start, self.plan.patience.reply, now);
        link.phase = Phase::Clearing;
    }

    /// From here on the backend may take requests: a fresh driver is a running one.
    pub(super) fn run_queues(&mut self, now: Instant) {
        let (activation, resumed) = match std::mem::replace(&mut self.driver, Driver::Down) {
            Driver::Fresh(activation) => (activation, false),
            Driver::Running(activation) => (activation, true),
            other => return self.driver = other,
        };
        let messages = self.start_messages(&activation, resumed);
        self.driver = Driver::Running(activation);
        let messages = match messages {
            Ok(messages) => messages,
            Err(fault) => return self.lose(Some(fault)),
        };
        let Some(link) = &mut self.link else { return };
        for message in messages {
            link.exchange.ask(message, Purpose::Start, self.plan.patience.reply, now);
        }
        if !link.exchange.has_acks() {
            // Its answer says that everything before it was done.
            let barrier = Message::get_number(FrontendReq::GET_FEATURES);
            link.exchange.ask(barrier, Purpose::Start, self.plan.patience.reply, now);
        }
        link.knows_memory = true;
        link.phase = Phase::Starting { resumed };
    }

    fn start_messages(
        &self,
        activation: &Activation,
        resumed: bool,
    ) -> Result<Vec<Message>, Fault> {
        let offered = self.offer.as_ref().map_or(0, |offer| offer.features);
        let mut features = activation.features & offered | PROTOCOL_FEATURES;
        let log = self.ram.written.as_ref().filter(|_| self.logs_writes());
        if log.is_some() {
            features |= LOG_ALL;
        }
        let mut messages = vec![Message::set_number(FrontendReq::SET_FEATURES, features)];
        if let Some(table) = &self.inflight {
            messages.push(Message::set_inflight(table, self.plan.queues, self.plan.queue_size));
        }
        if self.link.as_ref().is_some_and(|link| !link.knows_memory) {
            messages.push(Message::set_memory_table(&self.ram));
            // Behind the memory: some backends make a log for each of its regions.
            messages.extend(log.map(Message::set_log));
        }
        let mut enable = Vec::new();
        for (index, rings) in activation.enabled() {
            let Some(bells) = self.bells.get(usize::from(index)) else { continue };
            let base = if resumed { self.used_index(&rings)? } else { 0 };
            let (kick, call) =
                (Arc::clone(&bells.kick) as Attached, Arc::clone(&bells.call) as Attached);
            messages.push(Message::set_queue(FrontendReq::SET_VRING_NUM, index, rings.size.into()));
            messages.push(Message::set_queue(FrontendReq::SET_VRING_BASE, index, base.into()));
            messages.push(Message::set_rings(index, &rings, log.is_some()));
            messages.push(Message::set_bell(FrontendReq::SET_VRING_CALL, index, call));
            messages.push(Message::set_bell(FrontendReq::SET_VRING_KICK, index, kick));
            enable.push(Message::set_queue(FrontendReq::SET_VRING_ENABLE, index, 1));
        }
        messages.append(&mut enable);
        Ok(messages)
    }

    /// The used index that the dead backend left in guest memory.
    fn used_index(&self, rings: &QueueRings) -> Result<u16, Fault> {
        let range = GuestRange::new(rings.used.wrapping_add(2), 2);
        let word = self.ram.memory.check(range).map_err(|error| Fault::Rings(error.to_string()))?;
        word.load_u16(0, Ordering::Acquire).map_err(|error| Fault::Rings(error.to_string()))
    }

    pub(super) fn serving(&mut self, resumed: bool) {
        let Some(link) = &mut self.link else { return };
        link.phase = Phase::Serving;
        if resumed {
            self.ring_again();
        }
        self.events.push_back(Event::Serving);
    }

    /// Kicks that a dead backend took and calls that it did not make any more are rung again. To a
    /// driver both are spurious at worst.
    fn ring_again(&self) {
        let Driver::Running(activation) = &self.driver else { return };
        for (index, _) in activation.enabled() {
            let Some(bells) = self.bells.get(usize::from(index)) else { continue };
            bells.kick.ring_if_quiet();
            bells.call.ring_if_quiet();
        }
    }

    pub(super) fn stop_queues(&mut self, now: Instant) {
        let (Some(link), Driver::Leaving(activation)) = (&mut self.link, &self.driver) else {
            return;
        };
        let used = || activation.enabled().filter(|(index, _)| *index < self.plan.queues);
        for (index, _) in used() {
            let message = Message::set_queue(FrontendReq::SET_VRING_ENABLE, index, 0);
            link.exchange.ask(message, Purpose::Stop, self.plan.patience.stop, now);
        }
        for (index, _) in used() {
            link.exchange.ask(
                Message::get_base(index),
                Purpose::Stop,
                self.plan.patience.stop,
                now,
            );
        }
        link.phase = Phase::Stopping;
    }
}
