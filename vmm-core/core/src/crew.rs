//! The vCPU threads: made before the seal, given their vCPUs after it.
//!
//! ```text
//!  raise        threads exist and have told so: all that a thread's birth needs has happened
//!  (seal)       the process's filter falls on all of them
//!  seal         each stacks the narrower filter `core-vcpu`, and tells so
//!  assign       each gets its vCPU and stays with it for ever
//! ```

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::Context;
use bulkhead_hypervisor::kvm::kick;

use crate::vcpu::Seat;

/// The filter of a vCPU thread.
const PROFILE: &str = "core-vcpu";

/// A vCPU thread is shallow: an exit, a device, a system call.
const STACK: usize = 256 * 1024;

enum Order {
    Seal,
    Sit(Box<Seat>),
}

/// All vCPU threads.
pub struct Crew {
    orders: Vec<Sender<Order>>,
    /// Each thread says when it is up and when it is sealed.
    done: Receiver<()>,
}

impl Crew {
    /// Makes `count` threads and waits until each is up.
    pub fn raise(count: u8) -> anyhow::Result<Self> {
        let (tell, done) = channel();
        let mut orders = Vec::new();
        for index in 0..count {
            let (sender, receiver) = channel();
            let tell = tell.clone();
            thread::Builder::new()
                .name(format!("vcpu{index}"))
                .stack_size(STACK)
                .spawn(move || work(&receiver, &tell))
                .context("make a vCPU thread")?;
            orders.push(sender);
        }
        let crew = Self { orders, done };
        crew.wait();
        Ok(crew)
    }

    /// How many there are.
    pub fn len(&self) -> u8 {
        u8::try_from(self.orders.len()).unwrap_or(u8::MAX)
    }

    /// Narrows each thread's filter and waits until all are done. A thread that cannot ends the
    /// process.
    pub fn seal(&self) {
        for orders in &self.orders {
            let _ = orders.send(Order::Seal);
        }
        self.wait();
    }

    /// Gives each thread its vCPU.
    pub fn assign(&self, seats: Vec<Seat>) {
        for (orders, seat) in self.orders.iter().zip(seats) {
            let _ = orders.send(Order::Sit(Box::new(seat)));
        }
    }

    fn wait(&self) {
        for _ in &self.orders {
            let _ = self.done.recv();
        }
    }
}

/// A thread's life. It never ends before the process: what a thread's end needs is not in its filter.
fn work(orders: &Receiver<Order>, tell: &Sender<()>) {
    kick::enlist();
    let _ = tell.send(());
    while let Ok(order) = orders.recv() {
        match order {
            Order::Seal => {
                if let Err(error) = bulkhead_runtime::seal_thread(PROFILE) {
                    bulkhead_runtime::log(&format!(
                        "core: a vCPU thread cannot be sealed: {error}"
                    ));
                    bulkhead_runtime::exit(1);
                }
                let _ = tell.send(());
            }
            Order::Sit(seat) => seat.work(),
        }
    }
    bulkhead_runtime::exit(0)
}
