//! The block ring and the sealed block layer without anything in front: what vhost-blk could reach if
//! it had nothing else to do. For whoever works on either end of the ring.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bulkhead_channel::Channel;
use bulkhead_harness::programs;
use bulkhead_protocol::block::{BlockCommand, BlockEvent, BlockPlan, ExportPlan, NodePlan};
use bulkhead_protocol::block_ring::{BlockCompletion, BlockRequest, Operation};
use bulkhead_protocol::device::RingShape;
use bulkhead_protocol::spec::{CacheMode, Part};
use bulkhead_protocol::start::{FromHelper, ToHelper};
use bulkhead_ring::{Armed, Client, Pace, RingGeometry, Step};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::readiness::wait_readable;
use bulkhead_sys::{cpu, spawn};

use crate::Arguments;
use crate::contender::{SIZE, image};
use crate::place::Place;
use crate::usage;

const SHAPE: RingShape = RingShape { entries: 256, arena: 1 << 20 };

/// Prints a line for each place and depth.
pub fn run(arguments: &Arguments) -> Result<()> {
    let image = image(&arguments.memory)?;
    println!("| block ring alone, 4k random read | IOPS | CPU µs of the block layer |");
    println!("| --- | ---: | ---: |");
    for (name, place) in [("all on CPU 0", Place::Same), ("split", Place::Split)] {
        let _awake = place.spinners()?;
        for depth in [1, 8, 32] {
            let file = std::fs::File::options().read(true).write(true).open(image.path())?;
            let mut process = Process::start(file.into(), place)?;
            let mut rates = Vec::new();
            let mut costs = Vec::new();
            for _ in 0..arguments.rounds {
                let before = usage::cpu_time(&[process.child.id()]);
                let (requests, time) = process.drive(depth, arguments.time())?;
                let used = usage::cpu_time(&[process.child.id()]) - before;
                rates.push(requests as f64 / time.as_secs_f64());
                costs.push(used.as_secs_f64() * 1e6 / requests as f64);
            }
            let (rate, cost) = (crate::report::median(&rates), crate::report::median(&costs));
            println!("| depth {depth}, {name} | {:.1}k | {cost:.2} |", rate / 1e3);
        }
    }
    Ok(())
}

struct Process {
    child: Child,
    _channel: Channel,
    client: Client<BlockRequest, BlockCompletion>,
    submit: Doorbell,
    complete: Doorbell,
    pace: Pace,
    random: u64,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(image: OwnedFd, place: Place) -> Result<Self> {
        let (ours, theirs) = Channel::pair()?;
        let mut command = Command::new("taskset");
        command.args(["-c", place.backend()]);
        command.arg(programs::folder().join("bulkhead-block-layer")).arg("1");
        command.stdin(Stdio::null()).env_clear().env("PATH", "/usr/bin:/bin");
        let child = spawn::spawn(&mut command, &[(theirs.as_fd(), 3)]).context("block-layer")?;
        drop(theirs);
        let geometry = RingGeometry::new(SHAPE.entries, SHAPE.arena)?;
        let ring = bulkhead_ring::create(geometry, 1)?;
        let (submit, complete) = (Doorbell::new()?, Doorbell::new()?);
        let client = Client::attach(&ring, geometry, 1)?;
        let export = ExportPlan {
            export: 0,
            queues: 1,
            ring: SHAPE,
            incarnation: 1,
            read_only: false,
            bitmap: None,
            cpus: Vec::new(),
        };
        let (cache, part) = (CacheMode::Writeback, Part::default());
        let node = NodePlan::Raw { cache, discard: true, read_only: false, part };
        let plan = BlockPlan::serving(node, vec![export]);
        let message = ToHelper::Role(BlockCommand::Plan(Box::new(plan)));
        let fds: [BorrowedFd<'_>; 4] =
            [image.as_fd(), ring.as_fd(), submit.as_fd(), complete.as_fd()];
        let deadline = Deadline::after(Duration::from_secs(5));
        let (sealed, _) = ours.receive_by::<FromHelper<BlockEvent>>(deadline)?;
        ensure!(matches!(sealed, FromHelper::Sealed(_)), "{sealed:?}");
        ours.send(&message, &fds)?;
        loop {
            match ours.receive_by::<FromHelper<BlockEvent>>(deadline)?.0 {
                FromHelper::Ready => break,
                FromHelper::Role(BlockEvent::Opened(_)) => {}
                other => bail!("{other:?}"),
            }
        }
        cpu::restrict(0, &[place.driver(0)])?;
        let pace = Pace::new();
        Ok(Self { child, _channel: ours, client, submit, complete, pace, random: 0x9e37_79b9 })
    }

    fn drive(&mut self, depth: u64, time: Duration) -> Result<(u64, Duration)> {
        for tag in 0..depth {
            self.submit(tag)?;
        }
        self.client.submit.publish().ring(&self.submit);
        let start = Instant::now();
        let mut requests = 0;
        while start.elapsed() < time {
            let mut found = 0;
            while let Some(done) = self.client.complete.pop()? {
                ensure!(done.status == 0, "status {}", done.status);
                self.submit(done.tag)?;
                found += 1;
            }
            self.client.submit.publish().ring(&self.submit);
            requests += found;
            if found > 0 {
                self.pace.found();
            } else {
                self.rest(start)?;
            }
        }
        let time = start.elapsed();
        for _ in 0..depth {
            while self.client.complete.pop()?.is_none() {
                std::thread::yield_now();
            }
        }
        Ok((requests, time))
    }

    fn submit(&mut self, tag: u64) -> Result<()> {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let offset = self.random % (SIZE / 4096) * 4096;
        let (span, operation) = (tag as u32 * 4096, Operation::Read.code());
        let request =
            BlockRequest { tag, offset, span, len: 4096, operation, flags: 0, reserved: [0; 6] };
        Ok(self.client.submit.push(request)?)
    }

    fn rest(&mut self, start: Instant) -> Result<()> {
        let same_cpu = cpu::current().is_none_or(|cpu| self.client.cpus.shared(cpu));
        match self.pace.next(same_cpu, start.elapsed()) {
            Step::Spin => std::hint::spin_loop(),
            Step::YieldOnce => {
                let before = start.elapsed();
                std::thread::yield_now();
                let after = start.elapsed();
                self.pace.yielded(after - before, after);
            }
            Step::Arm => {
                if self.client.complete.arm()? == Armed::Sleep {
                    wait_readable([self.complete.as_fd()], Some(Duration::from_secs(5)))?;
                    self.complete.clear();
                }
                self.client.complete.disarm();
            }
        }
        Ok(())
    }
}
