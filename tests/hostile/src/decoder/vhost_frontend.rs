//! What a hostile vhost-user backend says to core: replies, requests of its own, and their timing.
//!
//! An input is a script: for each message from the frontend, how the answer is damaged; between them,
//! what driver and core do. The guest is never offered more than the plan has, and a lie ends in a
//! loss, never in a panic.

use std::time::{Duration, Instant};

use bulkhead_vhost_frontend::{Event, Frontend};
use bulkhead_virtio_transport::DeviceType;
use vhost::vhost_user::message::FrontendReq;

use super::Verdict;
use crate::draw::Draw;
use crate::puppet::{self, Puppet, QUEUES, REPLY, Whose};

/// Steps of one script.
const MOST_STEPS: usize = 120;

/// Bytes of a reply that are damaged at most.
const MOST_DAMAGE: usize = 8;

struct Play {
    frontend: Frontend,
    puppet: Option<Puppet>,
    now: Instant,
    served: bool,
}

/// Plays a script. Accepted: the queues ran.
pub fn run(bytes: &[u8]) -> Verdict {
    let mut draw = Draw::new(bytes);
    let whose = if draw.flip() { Whose::Foreign } else { Whose::Own };
    let now = Instant::now();
    let mut frontend = puppet::frontend(whose);
    let puppet = Some(Puppet::connect(&mut frontend, now));
    let mut play = Play { frontend, puppet, now, served: false };
    for _ in 0..MOST_STEPS {
        if draw.is_over() {
            break;
        }
        play.step(&mut draw);
        play.listen();
    }
    // Whatever was said: without backend and driver, nothing is awaited and a reset ends.
    play.frontend.stop(play.now);
    play.frontend.disconnect();
    play.listen();
    assert!(!play.frontend.is_connected() && play.frontend.deadline().is_none());
    Verdict::accepted_if(play.served)
}

impl Play {
    fn step(&mut self, draw: &mut Draw<'_>) {
        match draw.byte() % 16 {
            0..=7 => self.answer(draw, false),
            8..=10 => self.answer(draw, true),
            11 => self.speak(draw),
            12 => self.frontend.start(puppet::activation(), self.now),
            13 => self.frontend.stop(self.now),
            14 => self.now += Duration::from_millis(draw.half().into()),
            _ => self.replace(draw),
        }
    }

    /// Answers one message, honestly or not.
    fn answer(&mut self, draw: &mut Draw<'_>, damaged: bool) {
        let Some(puppet) = &mut self.puppet else { return };
        let Some(mut heard) = puppet.hear() else { return };
        let due = usize::from(heard.request == FrontendReq::GET_INFLIGHT_FD);
        let Some(mut body) = puppet.reply_to(&mut heard) else { return };
        let (mut request, mut flags, mut fds) = (u32::from(heard.request), REPLY, due);
        if damaged {
            for _ in 0..=draw.below(MOST_DAMAGE as u32) {
                let at = draw.half() as usize % body.len();
                body[at] = draw.byte();
            }
            match draw.byte() % 8 {
                0 => request = draw.word(),
                1 => flags = draw.word(),
                2 => fds = draw.byte().into(),
                3 => body.truncate(draw.byte().into()),
                4 => body.resize(usize::from(draw.half()) % 512, draw.byte()),
                _ => {}
            }
        }
        puppet.say(request, flags, &body, fds.min(60));
    }

    /// Says what nobody asked for, on either channel.
    fn speak(&mut self, draw: &mut Draw<'_>) {
        let Some(puppet) = &self.puppet else { return };
        let (own, fds) = (draw.flip(), usize::from(draw.byte()) % 4);
        let len = draw.byte().into();
        let bytes = draw.bytes(len);
        if bytes.is_empty() {
            return;
        }
        match own {
            true => puppet.request_raw(bytes, fds),
            false => puppet.say_raw(bytes, fds),
        }
    }

    /// The backend dies; perhaps it is reaped, perhaps a successor comes.
    fn replace(&mut self, draw: &mut Draw<'_>) {
        self.puppet = None;
        self.listen();
        match draw.byte() % 3 {
            0 => self.frontend.disconnect(),
            1 => {}
            _ => {
                let mut puppet = Puppet::connect(&mut self.frontend, self.now);
                puppet.features ^=
                    u64::from(draw.byte() & draw.byte() & draw.byte()) << (draw.byte() % 64);
                self.puppet = Some(puppet);
            }
        }
    }

    fn listen(&mut self) {
        // More events than the script's step can cause would be a loop.
        for _ in 0..32 {
            match self.frontend.advance(self.now) {
                None => return,
                Some(Event::Serving) => self.served = true,
                Some(Event::Up(offer)) => {
                    assert_eq!(offer.features & !DeviceType::BLK.features, 0, "beyond the plan");
                    check_config(&offer.config);
                }
                Some(Event::ConfigChanged(config)) => check_config(&config),
                Some(Event::Lost(_)) => assert!(!self.frontend.is_connected()),
                Some(Event::Stopped) => {}
            }
        }
        panic!("the frontend has always something new to say");
    }
}

/// The guest sees as many queues as were planned, whatever the backend has.
fn check_config(config: &[u8]) {
    assert_eq!(config.len(), 60);
    assert_eq!(config[34..36], QUEUES.to_le_bytes());
}

/// A backend that serves, is reset, dies and is replaced; one that lies late.
pub fn samples() -> Vec<Vec<u8>> {
    let honest = [0; 40];
    let serve = |whose: u8| [&[whose][..], &honest, &[12], &honest].concat();
    let reset = [&serve(0)[..], &[13], &honest, &[12], &honest].concat();
    let replaced = [&serve(0)[..], &[15, 2, 0, 0, 0, 0], &honest].concat();
    let lie = [&serve(1)[..10], &[8, 0, 0, 0, 0, 9, 0, 5], &honest].concat();
    let change = [12, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0];
    let told = [&serve(0)[..], &[11, 1, 0, 12], &change[..], &honest].concat();
    vec![serve(0), serve(1), reset, replaced, lie, told]
}
