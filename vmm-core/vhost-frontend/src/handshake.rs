//! The handshake: what the backend has, measured against the plan.
//!
//! Three rounds: features; protocol features; and, once those are set, queues, request channel and
//! configuration space. A later backend must offer the guest the same features as the first one did.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use vhost::vhost_user::VhostUserProtocolFeatures as Protocol;
use vhost::vhost_user::message::{FrontendReq, VHOST_USER_MAX_VRINGS};

use crate::attached::Attached;
use crate::event::Offer;
use crate::exchange::{Exchange, Purpose};
use crate::fault::Fault;
use crate::message::Message;
use crate::plan::Plan;
use crate::reply::Reply;

/// VIRTIO_F_VERSION_1 (virtio 1.2, section 6).
const VERSION_1: u64 = 1 << 32;

/// VHOST_USER_F_PROTOCOL_FEATURES.
pub(crate) const PROTOCOL_FEATURES: u64 = 1 << 30;

/// VHOST_F_LOG_ALL.
pub(crate) const LOG_ALL: u64 = 1 << 26;

/// What there is for the backend beside the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    /// An in-flight table, which it must take.
    pub inflight: bool,
    /// A log of written pages, which it uses if it can.
    pub log: bool,
}

/// What is known so far.
pub(crate) struct Handshake {
    features: u64,
    protocol: Protocol,
    queues: u64,
    config: Vec<u8>,
    /// The backend's end of the request channel. One that is not wanted stays here, so that its closing
    /// does not look like a hang-up, until our end is closed.
    requests: Option<OwnedFd>,
    needs: Needs,
    asked_everything: bool,
}

impl Handshake {
    /// Sends the first questions.
    pub fn begin(
        exchange: &mut Exchange,
        plan: &Plan,
        requests: Option<OwnedFd>,
        needs: Needs,
        now: Instant,
    ) -> Self {
        let mut ask = |message| exchange.ask(message, Purpose::Handshake, plan.patience.reply, now);
        ask(Message::set_owner());
        ask(Message::get_number(FrontendReq::GET_FEATURES));
        Self {
            features: 0,
            protocol: Protocol::empty(),
            queues: 1,
            config: Vec::new(),
            requests,
            needs,
            asked_everything: false,
        }
    }

    /// All that the backend offers, before anything is masked.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Whether the backend was given its request channel.
    pub fn has_requests(&self) -> bool {
        self.protocol.contains(Protocol::BACKEND_REQ)
    }

    /// Whether the backend marks what it writes in the log.
    pub fn logs(&self) -> bool {
        self.can_log() && self.protocol.contains(Protocol::LOG_SHMFD)
    }

    fn can_log(&self) -> bool {
        self.needs.log && self.features & LOG_ALL != 0
    }

    /// Closes a request channel that the backend does not want.
    pub fn close_requests(&mut self) {
        self.requests = None;
    }

    /// Takes an answer and asks what follows from it.
    pub fn hear(
        &mut self,
        request: FrontendReq,
        reply: Reply,
        exchange: &mut Exchange,
        plan: &Plan,
        now: Instant,
    ) -> Result<(), Fault> {
        match (request, reply) {
            (FrontendReq::GET_FEATURES, Reply::Number(features)) => {
                self.features = features;
                self.check_features()?;
                let question = Message::get_number(FrontendReq::GET_PROTOCOL_FEATURES);
                exchange.ask(question, Purpose::Handshake, plan.patience.reply, now);
            }
            (FrontendReq::GET_PROTOCOL_FEATURES, Reply::Number(offered)) => {
                self.protocol = self.agree(Protocol::from_bits_truncate(offered), plan)?;
                self.ask_the_rest(exchange, plan, now);
            }
            (FrontendReq::GET_QUEUE_NUM, Reply::Number(queues)) => self.queues = queues,
            (FrontendReq::GET_CONFIG, Reply::Config(config)) => self.config = config,
            _ => {}
        }
        Ok(())
    }

    fn check_features(&self) -> Result<(), Fault> {
        if self.features & VERSION_1 == 0 {
            return Err(Fault::Lacks("VIRTIO_F_VERSION_1"));
        }
        if self.features & PROTOCOL_FEATURES == 0 {
            return Err(Fault::Lacks("VHOST_USER_F_PROTOCOL_FEATURES"));
        }
        Ok(())
    }

    /// Which of the offered protocol features are used; those that the plan needs must be there.
    fn agree(&self, offered: Protocol, plan: &Plan) -> Result<Protocol, Fault> {
        let mut wanted = Protocol::REPLY_ACK;
        let needs = [
            (plan.queues > 1, Protocol::MQ, "VHOST_USER_PROTOCOL_F_MQ"),
            (plan.device.config.len > 0, Protocol::CONFIG, "VHOST_USER_PROTOCOL_F_CONFIG"),
            (self.needs.inflight, Protocol::INFLIGHT_SHMFD, "VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD"),
        ];
        for (_, feature, name) in needs.into_iter().filter(|(needed, ..)| *needed) {
            if !offered.contains(feature) {
                return Err(Fault::Lacks(name));
            }
            wanted |= feature;
        }
        if self.requests.is_some() {
            wanted |= Protocol::BACKEND_REQ;
        }
        if self.can_log() {
            wanted |= Protocol::LOG_SHMFD;
        }
        // The number of queues is asked for whenever it can be: one that is too high is a lie, too.
        Ok(offered & (wanted | Protocol::MQ))
    }

    fn ask_the_rest(&mut self, exchange: &mut Exchange, plan: &Plan, now: Instant) {
        let ask = |exchange: &mut Exchange, message| {
            exchange.ask(message, Purpose::Handshake, plan.patience.reply, now);
        };
        let agreed = Message::set_number(FrontendReq::SET_PROTOCOL_FEATURES, self.protocol.bits());
        ask(exchange, agreed);
        if self.protocol.contains(Protocol::REPLY_ACK) {
            exchange.agree_on_acks();
        }
        if self.protocol.contains(Protocol::MQ) {
            ask(exchange, Message::get_number(FrontendReq::GET_QUEUE_NUM));
        }
        if self.has_requests()
            && let Some(fd) = self.requests.take()
        {
            ask(exchange, Message::set_backend_requests(Arc::new(fd) as Attached));
        }
        if plan.device.config.len > 0 {
            ask(exchange, Message::get_config(plan.device.config.len));
        }
        self.asked_everything = true;
    }

    /// The offer, once everything is answered.
    pub fn finish(&self, exchange: &Exchange, plan: &Plan) -> Result<Option<Offer>, Fault> {
        if !self.asked_everything || !exchange.is_done(Purpose::Handshake) {
            return Ok(None);
        }
        if self.queues < u64::from(plan.queues) {
            return Err(Fault::TooFewQueues { has: self.queues, planned: plan.queues });
        }
        let config = check_config(self.config.clone(), self.features, self.queues, plan)?;
        Ok(Some(Offer { features: self.features & (plan.device.features | VERSION_1), config }))
    }

    /// Checks a configuration space that was read again.
    pub fn check_config(&self, config: Vec<u8>, plan: &Plan) -> Result<Vec<u8>, Fault> {
        check_config(config, self.features, self.queues, plan)
    }
}

/// Compares the number of queues in a configuration space with what GET_QUEUE_NUM said, and puts the
/// plan's in its place.
fn check_config(
    mut config: Vec<u8>,
    features: u64,
    queues: u64,
    plan: &Plan,
) -> Result<Vec<u8>, Fault> {
    let Some((bit, at)) = plan.device.config.queue_count else { return Ok(config) };
    if features >> bit & 1 == 0 {
        return match plan.queues {
            1 => Ok(config),
            planned => Err(Fault::TooFewQueues { has: 1, planned }),
        };
    }
    let Some(count) = config.get_mut(at..at + 2) else { return Ok(config) };
    let said = u16::from_le_bytes([count[0], count[1]]);
    if said == 0 || u64::from(said) > queues || queues > VHOST_USER_MAX_VRINGS {
        return Err(Fault::QueueLie { queues, config: said });
    }
    count.copy_from_slice(&plan.queues.to_le_bytes());
    Ok(config)
}
