//! One measurement of one side: a driver per queue for a while, and what the backend spent on it.

use std::time::Duration;

use anyhow::{Result, bail};
use bulkhead_harness::frontend::{Frontend, Options, Queue};
use bulkhead_sys::cpu;

use crate::contender::Contender;
use crate::load::{Done, Load, Pattern, drive};
use crate::place::Place;
use crate::report::Figures;

/// How a side is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Where its parts are.
    pub place: Place,
    /// Queues, each with a driver.
    pub queues: u16,
    /// What each of them asks.
    pub load: Load,
    /// For how long.
    pub time: Duration,
}

impl Run {
    /// Loads a side. What it does once it cannot do again warm: there it begins cold.
    pub fn measure(&self, contender: &Contender) -> Result<Figures> {
        let options = Options::new(self.queues, self.load.depth);
        let (_frontend, queues) = Frontend::connect_with(contender.socket(), options)?;
        let warm = match self.load.pattern {
            Pattern::WriteOnce { .. } => queues,
            _ => self.drive(queues, self.time / 10)?.0,
        };
        let before = contender.cpu_time();
        let (_, done) = self.drive(warm, self.time)?;
        let cpu = contender.cpu_time() - before;
        let requests: u64 = done.iter().map(|done| done.requests).sum();
        let rate = done.iter().map(|done| done.requests as f64 / done.time.as_secs_f64()).sum();
        Ok(Figures { rate, cpu: cpu.as_secs_f64() / requests.max(1) as f64 })
    }

    fn drive(&self, queues: Vec<Queue>, time: Duration) -> Result<(Vec<Queue>, Vec<Done>)> {
        let (load, place) = (self.load, self.place);
        let drivers = queues.into_iter().enumerate().map(|(number, mut queue)| {
            std::thread::spawn(move || -> Result<_> {
                cpu::restrict(0, &[place.driver(number)])?;
                let done = drive(&mut queue, load, time)?;
                Ok((queue, done))
            })
        });
        let drivers: Vec<_> = drivers.collect();
        let ended = drivers.into_iter().map(|thread| match thread.join() {
            Ok(ended) => ended,
            Err(_) => bail!("a driver panicked"),
        });
        Ok(ended.collect::<Result<Vec<_>>>()?.into_iter().unzip())
    }
}
