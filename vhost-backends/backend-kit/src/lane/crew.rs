//! The lanes besides the first: threads that exist before the process is sealed, since none can be
//! made afterwards, and wait for their part of the device.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier};
use std::thread;

use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::poller::{Interest, Poller};

use super::MAILBOX;
use super::mail::{Mail, QueueOrder, Report};
use super::turn::Lane;
use crate::device::{Device, DeviceFault};

/// Stack of a thread in bytes: nothing here recurses.
const STACK: usize = 256 << 10;

type Post<D> = Mail<D, <D as Device>::Order>;

/// One other lane, as the main thread sees it.
struct Hand<D: Device> {
    mail: Sender<Post<D>>,
    bell: Arc<Doorbell>,
}

/// All lanes besides the first.
pub struct Crew<D: Device> {
    hands: Vec<Hand<D>>,
    reports: Receiver<Report>,
    /// Rung by the other lanes when they reported something; where there are none, there is none.
    bell: Option<Arc<Doorbell>>,
    progress: Arc<AtomicU64>,
}

impl<D: Device> Crew<D> {
    /// Makes `count` threads and returns once each has begun: a thread's first steps (rseq, its signal
    /// stack) take calls that a sealed process has not. To be called before the seal.
    pub fn gather(count: usize) -> io::Result<Self> {
        let begun = Arc::new(Barrier::new(count + 1));
        let bell = match count {
            0 => None,
            _ => Some(Arc::new(Doorbell::new()?)),
        };
        let (sender, reports) = mpsc::channel();
        let progress = Arc::new(AtomicU64::new(0));
        let mut hands = Vec::with_capacity(count);
        for (number, bell) in (0..count).zip(bell.iter().cycle()) {
            let (mail, mailbox) = mpsc::channel();
            let own = Arc::new(Doorbell::new()?);
            let poller = Poller::new()?;
            poller.add(&*own, MAILBOX, Interest::Read)?;
            let berth = Berth {
                queue: number as u16 + 1,
                poller,
                mailbox,
                bell: own.clone(),
                reports: sender.clone(),
                main_bell: bell.clone(),
                progress: progress.clone(),
            };
            let thread = thread::Builder::new().name(format!("queue-{}", berth.queue));
            let begun = begun.clone();
            thread.stack_size(STACK).spawn(move || {
                begun.wait();
                berth.run();
            })?;
            hands.push(Hand { mail, bell: own });
        }
        begun.wait();
        Ok(Self { hands, reports, bell, progress })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.hands.len()
    }

    /// Whether the main thread is alone.
    pub fn is_empty(&self) -> bool {
        self.hands.is_empty()
    }

    /// Rung when there are reports.
    pub fn bell(&self) -> Option<&Doorbell> {
        self.bell.as_deref()
    }

    /// Requests completed by all lanes that count here.
    pub fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// The counter of [`progress`](Self::progress), for the first lane.
    pub fn counter(&self) -> Arc<AtomicU64> {
        self.progress.clone()
    }

    /// Gives lane `number` (from 0, the first of these) its part of the device.
    pub fn begin(&self, number: usize, device: D) {
        self.send(number, Mail::Begin(device));
    }

    /// Sends an order about queue `index` to lane `number`.
    pub fn order_queue(&self, number: usize, index: u16, order: QueueOrder) {
        self.send(number, Mail::Queue(index, order));
    }

    /// Passes on what the supervisor said.
    pub fn order(&self, number: usize, order: D::Order) {
        self.send(number, Mail::Device(order));
    }

    /// Asks every lane for a sign of life; answers how many were asked.
    pub fn ping(&self, number: u64) -> usize {
        (0..self.len()).for_each(|lane| self.send(lane, Mail::Ping(number)));
        self.len()
    }

    /// A lane that is gone took the process with it, so a failure to send is not seen.
    fn send(&self, number: usize, mail: Post<D>) {
        if let Some(hand) = self.hands.get(number) {
            let _ = hand.mail.send(mail);
            hand.bell.ring();
        }
    }

    /// The next report.
    pub fn next_report(&self) -> Option<Report> {
        self.reports.try_recv().ok()
    }
}

/// What a thread has before it has a device.
struct Berth<D: Device> {
    queue: u16,
    poller: Poller,
    mailbox: Receiver<Post<D>>,
    bell: Arc<Doorbell>,
    reports: Sender<Report>,
    main_bell: Arc<Doorbell>,
    progress: Arc<AtomicU64>,
}

impl<D: Device> Berth<D> {
    fn run(self) {
        let (reports, bell) = (self.reports.clone(), self.main_bell.clone());
        if let Err(fault) = self.serve() {
            let _ = reports.send(Report::Failed(fault.to_string()));
            bell.ring();
        }
    }

    fn serve(self) -> Result<(), DeviceFault> {
        let Some(device) = self.await_device()? else { return Ok(()) };
        let queues = self.queue..self.queue + 1;
        let mut lane = Lane::new(self.poller, device, queues, self.progress)?;
        let mut others = Vec::new();
        loop {
            lane.turn(&mut others)?;
            if !others.is_empty() {
                others.clear();
                self.bell.clear();
                for mail in self.mailbox.try_iter() {
                    match mail {
                        Mail::Begin(_) => {}
                        Mail::Queue(index, order) => lane.order_queue(index, order),
                        Mail::Device(order) => lane.order(order)?,
                        Mail::Ping(number) => {
                            let _ = self.reports.send(Report::Pong(number));
                            self.main_bell.ring();
                        }
                    }
                }
            }
            let mut any = false;
            for report in lane.take_reports() {
                let _ = self.reports.send(report);
                any = true;
            }
            if any {
                self.main_bell.ring();
            }
        }
    }

    /// Waits for the device; pings are answered meanwhile. `None`: the process ends without one.
    fn await_device(&self) -> Result<Option<D>, DeviceFault> {
        let mut events = Vec::new();
        loop {
            events.clear();
            self.poller.wait(None, &mut events)?;
            self.bell.clear();
            loop {
                match self.mailbox.try_recv() {
                    Ok(Mail::Begin(device)) => {
                        // The bell was rung for what lies behind it, too.
                        self.bell.ring();
                        return Ok(Some(device));
                    }
                    Ok(_) => {}
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return Ok(None),
                }
            }
        }
    }
}
