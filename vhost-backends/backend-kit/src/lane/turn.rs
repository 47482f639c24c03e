//! The loop of a lane, one turn at a time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::poller::{Event, Interest, Poller};

use super::mail::{Answer, QueueOrder, Report};
use super::{FIRST_KICK, FIRST_OF_DEVICE, FIRST_OF_PROCESS, MAILBOX};
use crate::device::{Device, DeviceFault, Rest};
use crate::queue::{LiveQueue, QueueStart};

/// Busy turns after which the descriptors are looked at all the same: orders and heartbeats must not
/// starve, and a look costs a system call.
const PEEK_EVERY: u32 = 64;

/// A thread's queues and its part of the device.
#[derive(Debug)]
pub struct Lane<D> {
    poller: Poller,
    device: D,
    /// Index of the first queue.
    first: u16,
    queues: Vec<Option<LiveQueue>>,
    reports: Vec<Report>,
    /// Requests completed by this lane; read by the main thread.
    progress: Arc<AtomicU64>,
    unpeeked: u32,
    events: Vec<Event>,
}

impl<D: Device> Lane<D> {
    /// A lane for the queues from `first` on, so far all stopped.
    pub fn new(
        poller: Poller,
        mut device: D,
        queues: std::ops::Range<u16>,
        progress: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        device.watch(&poller, FIRST_OF_DEVICE)?;
        let first = queues.start;
        let queues = queues.map(|_| None).collect();
        let events = Vec::with_capacity(32);
        Ok(Self {
            poller,
            device,
            first,
            queues,
            reports: Vec::new(),
            progress,
            unpeeked: 0,
            events,
        })
    }

    /// The poller, for descriptors of the process.
    pub fn poller(&self) -> &Poller {
        &self.poller
    }

    /// What is to be told to the main thread.
    pub fn take_reports(&mut self) -> std::vec::Drain<'_, Report> {
        self.reports.drain(..)
    }

    /// One turn: serves, and looks at the descriptors if there is nothing to do or they were not
    /// looked at for long. Events that are neither the device's nor a kick's are appended to `others`.
    pub fn turn(&mut self, others: &mut Vec<Event>) -> Result<(), DeviceFault> {
        let busy = self.serve()?;
        if busy || self.device.rest()? == Rest::Look {
            return self.peek(others);
        }
        let mut waiting = false;
        for queue in self.queues.iter_mut().flatten() {
            waiting |= queue.rest();
        }
        // What came meanwhile is served before anything else.
        let polled = match (waiting, self.reports.is_empty()) {
            (true, _) => self.peek(others),
            (false, false) => self.poll(Some(Duration::ZERO), others),
            (false, true) => self.poll(None, others),
        };
        self.device.woke();
        for queue in self.queues.iter_mut().flatten() {
            queue.wake();
        }
        polled
    }

    /// Looks at the descriptors if they were not looked at for long.
    fn peek(&mut self, others: &mut Vec<Event>) -> Result<(), DeviceFault> {
        self.unpeeked += 1;
        match self.unpeeked < PEEK_EVERY {
            true => Ok(()),
            false => self.poll(Some(Duration::ZERO), others),
        }
    }

    fn serve(&mut self) -> Result<bool, DeviceFault> {
        let busy = self.device.serve(&mut self.queues)?;
        for place in &mut self.queues {
            let Some(queue) = place else { continue };
            queue.flush();
            if let Some(fault) = queue.take_fault() {
                self.reports.push(Report::Broken(queue.index(), fault));
            }
            match queue.take_poisoned() {
                0 => {}
                count => self.reports.push(Report::Poisoned(count)),
            }
            let completed = queue.take_completed();
            if completed > 0 && self.progress.fetch_add(completed, Ordering::Relaxed) == 0 {
                self.reports.push(Report::Progressed);
            }
            if let Some(base) = queue.stopped() {
                let _ = self.poller.remove(&queue.kick);
                let queue = queue.index();
                *place = None;
                self.reports.push(Report::Answer(Answer::Stopped { queue, base }));
            }
        }
        Ok(busy)
    }

    fn poll(
        &mut self,
        timeout: Option<Duration>,
        others: &mut Vec<Event>,
    ) -> Result<(), DeviceFault> {
        self.unpeeked = 0;
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        self.poller.wait(timeout, &mut events)?;
        for event in &events {
            match event.token {
                MAILBOX | FIRST_OF_PROCESS.. => others.push(*event),
                FIRST_OF_DEVICE.. => self.device.event(&self.poller, *event)?,
                token => self.kicked(token.wrapping_sub(FIRST_KICK) as usize, *event),
            }
        }
        self.events = events;
        Ok(())
    }

    /// A kick says that there may be something to take, which the next turn finds out.
    fn kicked(&mut self, place: usize, event: Event) {
        if let Some(Some(queue)) = self.queues.get(place) {
            if event.hung_up {
                // No eventfd hangs up: the frontend passed something else.
                let _ = self.poller.remove(&queue.kick);
            }
            queue.kick.clear();
        }
    }

    /// Passes on what the supervisor said.
    pub fn order(&mut self, order: D::Order) -> Result<(), DeviceFault> {
        self.device.order(order, &mut self.queues)
    }

    /// Carries an order about queue `index` out; the answer is among the reports, at once or (a stop)
    /// when it is done.
    pub fn order_queue(&mut self, index: u16, order: QueueOrder) {
        let place = usize::from(index.wrapping_sub(self.first));
        let answer = match self.queues.get(place) {
            None => Some(Answer::Refused(format!("there is no queue {index} here"))),
            Some(None) => self.order_stopped(place, order),
            Some(Some(_)) => self.order_live(place, order),
        };
        self.reports.extend(answer.map(Report::Answer));
    }

    fn order_stopped(&mut self, place: usize, order: QueueOrder) -> Option<Answer> {
        Some(match order {
            QueueOrder::Start(start) => match self.start(place, *start) {
                Ok(()) => Answer::Done,
                Err(reason) => Answer::NotStarted { queue: self.first + place as u16, reason },
            },
            QueueOrder::Stop => Answer::Refused("the queue does not run".into()),
            // The frontend's wishes about a stopped queue are in the next start.
            _ => Answer::Done,
        })
    }

    fn start(&mut self, place: usize, start: QueueStart) -> Result<(), String> {
        let queue = LiveQueue::start(start).map_err(|fault| fault.to_string())?;
        self.watch_kick(place, &queue.kick).map_err(|error| format!("kick: {error}"))?;
        if let Some(place) = self.queues.get_mut(place) {
            *place = Some(queue);
        }
        Ok(())
    }

    fn watch_kick(&self, place: usize, kick: &Doorbell) -> io::Result<()> {
        self.poller.add(kick, FIRST_KICK + place as u64, Interest::Read)
    }

    fn order_live(&mut self, place: usize, order: QueueOrder) -> Option<Answer> {
        let queue = self.queues.get_mut(place)?.as_mut()?;
        match order {
            QueueOrder::Start(_) => return Some(Answer::Refused("the queue runs already".into())),
            QueueOrder::Stop => {
                queue.stop();
                self.device.stop(queue);
                return None;
            }
            QueueOrder::Enable(enable) => queue.enable(enable),
            QueueOrder::Call(call) => queue.set_call(call),
            QueueOrder::Err(err) => queue.set_err(err),
            QueueOrder::Remap(memory, setup) => queue.remap(memory, &setup),
            QueueOrder::Kick(kick) => {
                let _ = self.poller.remove(&queue.kick);
                queue.kick = kick;
                let kick = &queue.kick;
                if let Err(error) = self.poller.add(kick, FIRST_KICK + place as u64, Interest::Read)
                {
                    return Some(Answer::Refused(format!("kick: {error}")));
                }
            }
        }
        Some(Answer::Done)
    }
}
