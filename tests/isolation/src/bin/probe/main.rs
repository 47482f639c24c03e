//! The probe: stands in a helper's place and tries what an attacker who has taken it over would.
//!
//! It starts as every helper does, under the class that its name says, and then makes the one attempt
//! it is told. What it reaches it sends back as bytes; a filter that kills it says so by its death.
//! Its second argument takes a layer away, so that the others can be tested without it.
#![allow(unsafe_code, reason = "an attacker calls the kernel directly")]

mod call;
mod code;
mod files;
mod network;
mod others;
mod privilege;
mod scene;

use std::os::fd::OwnedFd;
use std::time::Duration;

use bulkhead_channel::Channel;
use bulkhead_isolation::attempt::{Order, Told};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::start::{CHANNEL_FD, FromHelper, SealReport, ToHelper};
use bulkhead_runtime::{RuntimeError, Start, exit};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::inherited;

use scene::{Loot, Scene};

/// An attempt.
type Attempt = fn(&Scene) -> Loot;

/// Every group of attempts.
const GROUPS: [(&str, &[(&str, Attempt)]); 5] = [
    ("files", files::ATTEMPTS),
    ("code", code::ATTEMPTS),
    ("privilege", privilege::ATTEMPTS),
    ("others", others::ATTEMPTS),
    ("network", network::ATTEMPTS),
];

fn main() {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    if name == "executed" {
        exit(77);
    }
    let (Some(class), how) = (ProcessClass::from_name(&name), arguments.next()) else {
        exit(2);
    };
    match run(class, how.as_deref()) {
        Ok(()) | Err(RuntimeError::Closed) => exit(0),
        Err(error) => {
            bulkhead_runtime::log(&format!("probe: {error}"));
            exit(1)
        }
    }
}

fn run(class: ProcessClass, how: Option<&str>) -> Result<(), RuntimeError> {
    let channel = Channel::from_fd(inherited::take(CHANNEL_FD).expect("a channel"));
    let report = match how {
        Some("no-landlock") => Start::without_landlock(class).seal_unreported()?,
        Some("no-filter") => {
            drop(Start::new(class));
            NO_SEAL
        }
        Some("free") => NO_SEAL,
        _ => Start::new(class).seal_unreported()?,
    };
    channel.send(&FromHelper::<Told>::Sealed(report), &[])?;
    if how == Some("panic") {
        panic!("told to");
    }
    let mut held = Vec::new();
    loop {
        let patience = Deadline::after(Duration::from_secs(60));
        let (message, fds) = channel.receive_by::<ToHelper<Order>>(patience)?;
        if let ToHelper::Role(Order::Hold { .. }) = message {
            held.extend(fds);
            channel.send(&FromHelper::Role(Told::Reached(Vec::new())), &[])?;
        } else if let ToHelper::Role(order) = message {
            channel.send(&FromHelper::Role(obey(order, fds)), &[])?;
        } else {
            return Ok(());
        }
    }
}

/// What a probe says of a seal that it has not.
const NO_SEAL: SealReport =
    SealReport { version: 0, landlock_abi: 0, landlock_missing: Vec::new(), probe_refused: false };

fn obey(order: Order, fds: Vec<OwnedFd>) -> Told {
    match order {
        Order::Call { abi, number, arguments } => {
            call::told(scene::number(call::by(abi, number, arguments)))
        }
        Order::Cost { number, arguments, times } => call::cost(number, arguments, times),
        Order::Try { name, numbers, .. } => attempt(&name, &Scene::new(fds, numbers)),
        Order::List => Told::Attempts(names().collect()),
        Order::Hold { .. } => Told::Unknown,
    }
}

fn names() -> impl Iterator<Item = String> {
    GROUPS.iter().flat_map(|(group, attempts)| {
        attempts.iter().map(move |(name, _)| format!("{group}/{name}"))
    })
}

fn attempt(name: &str, scene: &Scene) -> Told {
    let (group, name) = name.split_once('/').unwrap_or_default();
    let attempts = GROUPS.iter().filter(|(known, _)| *known == group).flat_map(|(_, all)| *all);
    match attempts.into_iter().find(|(known, _)| *known == name) {
        Some((_, attempt)) => call::told(attempt(scene)),
        None => Told::Unknown,
    }
}
