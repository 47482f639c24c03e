//! The probe: stands in a helper's place and tries what an attacker who has taken it over would.
//!
//! It starts as every helper does, under the class that its name says, and then makes the one attempt
//! it is told. What it reaches it sends back as bytes; a filter that kills it says so by its death.
#![allow(unsafe_code, reason = "an attacker calls the kernel directly")]

mod call;

use std::os::fd::OwnedFd;
use std::time::Duration;

use bulkhead_isolation::attempt::{Order, Told};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_runtime::{Helper, RuntimeError, Start, exit};
use bulkhead_sys::clock::Deadline;

fn main() {
    let name = std::env::args().next().unwrap_or_default();
    let Some(class) = ProcessClass::from_name(&name) else {
        exit(2);
    };
    match run(Start::new(class)) {
        Ok(()) | Err(RuntimeError::Closed) => exit(0),
        Err(error) => {
            bulkhead_runtime::log(&format!("probe: {error}"));
            exit(1)
        }
    }
}

fn run(start: Start) -> Result<(), RuntimeError> {
    let probe: Helper<Order, Told> = start.seal()?;
    if std::env::args().nth(1).as_deref() == Some("panic") {
        panic!("told to");
    }
    let (order, fds) = probe.plan(Deadline::after(Duration::from_secs(60)))?;
    let told = obey(order, fds);
    probe.event(&told)?;
    probe.plan(Deadline::after(Duration::from_secs(60))).map(drop)
}

fn obey(order: Order, _fds: Vec<OwnedFd>) -> Told {
    match order {
        Order::Call { abi, number, arguments } => call::tell(call::by(abi, number, arguments)),
        Order::Cost { number, arguments, times } => call::cost(number, arguments, times),
        Order::Try { .. } => Told::Unknown,
    }
}
