//! Two threads, real doorbells, the loop of the crate's documentation: everything arrives once, in
//! order, whole, with its data.
#![cfg(not(loom))]

mod entries;

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bulkhead_ring::{
    ArenaAllocator, ArenaSpan, Armed, Client, Consumer, Cpus, Entry, Pace, RingGeometry, Server,
    Step, create,
};
use bulkhead_sys::eventfd::Doorbell;
use entries::{Completion, Request};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// One end's wait, as a process would write it.
struct Waiter {
    pace: Pace,
    start: Instant,
    bell: Doorbell,
    /// What the end believes about CPUs instead of asking; `None` asks.
    same_cpu: Option<bool>,
}

impl Waiter {
    fn new(bell: &Doorbell, same_cpu: Option<bool>) -> Self {
        let bell = bell.try_clone().unwrap();
        Self { pace: Pace::new(), start: Instant::now(), bell, same_cpu }
    }

    fn wait<E: Entry>(&mut self, ring: &mut Consumer<E>, cpus: &mut Cpus) {
        let now = self.start.elapsed();
        let here = bulkhead_sys::cpu::current().unwrap_or(0);
        match self.pace.next(self.same_cpu.unwrap_or_else(|| cpus.shared(here)), now) {
            Step::Spin => std::hint::spin_loop(),
            Step::YieldOnce => {
                std::thread::yield_now();
                let end = self.start.elapsed();
                self.pace.yielded(end - now, end);
            }
            Step::Arm => self.sleep(ring),
        }
    }

    fn sleep<E: Entry>(&mut self, ring: &mut Consumer<E>) {
        if ring.arm().unwrap() == Armed::Again {
            return;
        }
        let mut set = [PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(Duration::from_secs(60)).unwrap();
        assert_eq!(poll(&mut set, timeout), Ok(1), "a wake-up was lost");
        self.bell.clear();
        ring.disarm();
    }
}

/// Completes every request after turning over its data.
fn serve(
    mut end: Server<Request, Completion>,
    mut waiter: Waiter,
    clients_bell: Doorbell,
    total: u64,
) {
    let mut next = 0;
    while next < total {
        let Some(request) = end.submit.pop().unwrap() else {
            end.complete.publish().ring_if_quiet(&clients_bell);
            waiter.wait(&mut end.submit, &mut end.cpus);
            continue;
        };
        waiter.pace.found();
        assert!(request.is_whole(), "a torn request: {request:?}");
        assert_eq!(request.id, next, "a request was lost or repeated");
        let data = end.arena.check(request.offset, request.len).unwrap();
        let mut stamp = [0; 8];
        data.copy_in(&mut stamp).unwrap();
        assert_eq!(u64::from_ne_bytes(stamp), request.id);
        data.copy_out(&(!request.id).to_ne_bytes()).unwrap();
        end.complete.push(Completion::new(request.id)).unwrap();
        next += 1;
    }
    end.complete.publish().ring_if_quiet(&clients_bell);
}

/// Keeps as many requests in flight as `depth` says.
fn submit(
    mut end: Client<Request, Completion>,
    mut waiter: Waiter,
    servers_bell: Doorbell,
    total: u64,
    depth: usize,
) {
    let mut book = ArenaAllocator::new(end.arena.len());
    let mut in_flight: VecDeque<(u64, ArenaSpan)> = VecDeque::new();
    let mut next = 0;
    while next < total || !in_flight.is_empty() {
        while next < total && in_flight.len() < depth {
            let Ok(span) = book.alloc(8 + (next * 2654) % 20_000) else { break };
            let data = end.arena.check(span.offset(), span.len()).unwrap();
            data.copy_out(&next.to_ne_bytes()).unwrap();
            end.submit.push(Request::new(next, span.offset(), span.len())).unwrap();
            in_flight.push_back((next, span));
            next += 1;
        }
        end.submit.publish().ring(&servers_bell);
        let Some(completion) = end.complete.pop().unwrap() else {
            waiter.wait(&mut end.complete, &mut end.cpus);
            continue;
        };
        waiter.pace.found();
        let (id, span) = in_flight.pop_front().expect("a completion of nothing");
        assert_eq!(completion, Completion::new(id));
        let mut stamp = [0; 8];
        end.arena.check(span.offset(), 8).unwrap().copy_in(&mut stamp).unwrap();
        assert_eq!(u64::from_ne_bytes(stamp), !id);
        book.free(span).unwrap();
    }
    assert_eq!(book.used(), 0);
}

fn run(entries: u32, depth: usize, total: u64, same_cpu: Option<bool>) {
    let geometry = RingGeometry::new(entries, 1 << 20).unwrap();
    let fd = create(geometry, 1).unwrap();
    let client = Client::attach(&fd, geometry, 1).unwrap();
    let server = Server::attach(&fd, geometry, 1).unwrap();
    let (servers, clients) = (Doorbell::new().unwrap(), Doorbell::new().unwrap());
    let served = Waiter::new(&servers, same_cpu);
    let submitted = Waiter::new(&clients, same_cpu);
    std::thread::scope(|scope| {
        scope.spawn(move || serve(server, served, clients, total));
        scope.spawn(move || submit(client, submitted, servers, total, depth));
    });
}

#[test]
fn at_depth_one_every_request_sleeps_and_wakes() {
    run(2, 1, 20_000, Some(true));
}

#[test]
fn at_full_depth_slots_are_used_again_and_again() {
    run(32, 32, 200_000, Some(true));
}

#[test]
fn at_full_depth_of_the_smallest_ring_with_spinning() {
    run(2, 2, 50_000, Some(false));
}

#[test]
fn with_the_cpus_as_they_are() {
    run(64, 64, 200_000, None);
}
