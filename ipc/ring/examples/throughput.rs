//! How fast a ring is: requests a second between two threads, without data.
//!
//! `cargo run -p bulkhead-ring --release --example throughput -- [same|split] [DEPTH] [COUNT]`
//!
//! `same`: both threads on CPU 0; `split`: one each on CPU 0 and 1. A figure to look at beside
//! another of the same minute, never an assertion.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bulkhead_ring::{
    Armed, Client, Consumer, Cpus, Entry, Pace, RingGeometry, Server, Step, create,
};
use bulkhead_sys::cpu;
use bulkhead_sys::eventfd::Doorbell;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Request([u64; 8]);

impl Entry for Request {}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Completion([u64; 4]);

impl Entry for Completion {}

struct Waiter {
    pace: Pace,
    start: Instant,
    bell: Doorbell,
    cpu: usize,
    sleeps: u64,
}

impl Waiter {
    fn new(bell: Doorbell, cpu: usize) -> Self {
        cpu::restrict(0, &[cpu]).expect("pin");
        Self { pace: Pace::new(), start: Instant::now(), bell, cpu, sleeps: 0 }
    }

    fn wait<E: Entry>(&mut self, ring: &mut Consumer<E>, cpus: &mut Cpus) {
        let now = self.start.elapsed();
        match self.pace.next(cpus.shared(self.cpu), now) {
            Step::Spin => std::hint::spin_loop(),
            Step::YieldOnce => {
                std::thread::yield_now();
                let end = self.start.elapsed();
                self.pace.yielded(end - now, end);
            }
            Step::Arm => {
                if ring.arm().expect("honest") == Armed::Sleep {
                    self.sleeps += 1;
                    let mut set = [PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
                    poll(&mut set, PollTimeout::NONE).expect("poll");
                    self.bell.clear();
                    ring.disarm();
                }
            }
        }
    }
}

fn serve(
    mut end: Server<Request, Completion>,
    mut waiter: Waiter,
    peer: Doorbell,
    count: u64,
) -> u64 {
    let mut done = 0;
    while done < count {
        while let Some(request) = end.submit.pop().expect("honest") {
            waiter.pace.found();
            end.complete.push(Completion([request.0[0]; 4])).expect("room");
            done += 1;
        }
        end.complete.publish().ring(&peer);
        if done < count {
            waiter.wait(&mut end.submit, &mut end.cpus);
        }
    }
    waiter.sleeps
}

fn submit(
    mut end: Client<Request, Completion>,
    mut waiter: Waiter,
    peer: Doorbell,
    count: u64,
    depth: u64,
) -> (Duration, u64) {
    let start = Instant::now();
    let (mut sent, mut done) = (0, 0);
    while done < count {
        while sent < count && sent - done < depth {
            end.submit.push(Request([sent; 8])).expect("room");
            sent += 1;
        }
        end.submit.publish().ring(&peer);
        let before = done;
        while end.complete.pop().expect("honest").is_some() {
            done += 1;
        }
        if done == before {
            waiter.wait(&mut end.complete, &mut end.cpus);
        } else {
            waiter.pace.found();
        }
    }
    (start.elapsed(), waiter.sleeps)
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let split = args.first().is_some_and(|word| word == "split");
    let number =
        |at: usize, otherwise| args.get(at).map_or(otherwise, |n| n.parse().expect("a number"));
    let (depth, count): (u64, u64) = (number(1, 32), number(2, 2_000_000));
    let entries = u32::try_from(depth.next_power_of_two().max(2)).expect("a depth");
    let geometry = RingGeometry::new(entries, 1 << 20).expect("geometry");
    let fd = create(geometry, 1).expect("memfd");
    let client = Client::attach(&fd, geometry, 1).expect("client");
    let server = Server::attach(&fd, geometry, 1).expect("server");
    let bells = (Doorbell::new().expect("eventfd"), Doorbell::new().expect("eventfd"));
    let (to_server, to_client) =
        (bells.0.try_clone().expect("dup"), bells.1.try_clone().expect("dup"));
    std::thread::scope(|scope| {
        let serving = scope.spawn(move || {
            serve(server, Waiter::new(bells.0, usize::from(split)), to_client, count)
        });
        let (time, sleeps) = submit(client, Waiter::new(bells.1, 0), to_server, count, depth);
        let rate = count as f64 / time.as_secs_f64();
        let server_sleeps = serving.join().expect("server");
        println!(
            "{} depth {depth}: {rate:.0} requests/s, sleeps: client {sleeps}, server {server_sleeps}",
            if split { "split" } else { "same" }
        );
    });
}
