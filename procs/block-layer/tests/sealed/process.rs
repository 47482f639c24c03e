//! The supervisor's and the client's part.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bulkhead_channel::Channel;
use bulkhead_protocol::block::{BlockCommand, BlockEvent, BlockPlan, ExportPlan, NodePlan};
use bulkhead_protocol::block_ring::{BlockCompletion, BlockRequest, Operation};
use bulkhead_protocol::device::RingShape;
use bulkhead_protocol::filters::Filters;
use bulkhead_protocol::spec::{CacheMode, Part};
use bulkhead_protocol::start::{FromHelper, ToHelper};
use bulkhead_ring::{Client, RingGeometry};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::eventfd::Doorbell;
use tempfile::NamedTempFile;

pub const PAGE: u64 = 4096;
const SIZE: u64 = 4 << 20;
const SHAPE: RingShape = RingShape { entries: 256, arena: 1 << 20 };
const O_DIRECT: i32 = 0o40000;

/// What is lost when a test machine is slow is patience only.
fn patience() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

#[derive(Debug)]
pub struct Image {
    file: NamedTempFile,
    cache: CacheMode,
    device: Option<Loop>,
}

/// A loop device, given back on drop.
#[derive(Debug)]
struct Loop(String);

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

impl Image {
    pub fn new(cache: CacheMode, folder: &str) -> Self {
        let file = NamedTempFile::new_in(folder).unwrap();
        file.as_file().set_len(SIZE).unwrap();
        Self { file, cache, device: None }
    }

    /// `None` for who may not make one.
    pub fn on_a_loop_device(cache: CacheMode) -> Option<Self> {
        let mut image = Self::new(cache, env!("CARGO_MANIFEST_DIR"));
        let path = image.file.path();
        let losetup = Command::new("losetup").args(["--show", "-f"]).arg(path).output().ok()?;
        if !losetup.status.success() {
            return None;
        }
        let name = String::from_utf8(losetup.stdout).ok()?;
        image.device = Some(Loop(name.trim().to_owned()));
        Some(image)
    }

    fn open(&self) -> OwnedFd {
        let path = match &self.device {
            Some(Loop(name)) => name.as_ref(),
            None => self.file.path(),
        };
        let flags = if self.cache == CacheMode::None { O_DIRECT } else { 0 };
        let file = File::options().read(true).write(true).custom_flags(flags).open(path);
        file.unwrap().into()
    }
}

struct Queue {
    client: Client<BlockRequest, BlockCompletion>,
    submit: Doorbell,
}

pub struct Process {
    child: Child,
    channel: Channel,
    queues: Vec<Queue>,
}

fn geometry() -> RingGeometry {
    RingGeometry::new(SHAPE.entries, SHAPE.arena).unwrap()
}

impl Process {
    pub fn start(image: &Image, queues: u16, delay_ms: u32) -> Self {
        let (process, event) = Self::begin(image.open(), image.cache, queues, delay_ms);
        let BlockEvent::Opened(disk) = event else {
            panic!("{event:?}");
        };
        assert_eq!(disk.size, SIZE);
        process
    }

    /// Starts the process and gives it its plan; its first event.
    pub fn begin(
        image: OwnedFd,
        cache: CacheMode,
        queues: u16,
        delay_ms: u32,
    ) -> (Self, BlockEvent) {
        let node = NodePlan::Raw { cache, discard: true, read_only: false, part: Part::default() };
        Self::begin_with(node, vec![image], queues, delay_ms)
    }

    /// The same with any graph over these descriptors.
    pub fn begin_with(
        node: NodePlan,
        mut fds: Vec<OwnedFd>,
        queues: u16,
        delay_ms: u32,
    ) -> (Self, BlockEvent) {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-block-layer"));
        command.arg(queues.to_string()).stdin(Stdio::null()).stdout(Stdio::null()).env_clear();
        let child = bulkhead_sys::spawn::spawn(&mut command, &[(theirs.as_fd(), 3)]).unwrap();
        drop(theirs);
        let mut ends = Vec::new();
        for _ in 0..queues {
            let ring = bulkhead_ring::create(geometry(), 1).unwrap();
            let (submit, complete) = (Doorbell::new().unwrap(), Doorbell::new().unwrap());
            let client = Client::attach(&ring, geometry(), 1).unwrap();
            fds.extend([ring, submit.try_clone().unwrap().into_fd(), complete.into_fd()]);
            ends.push(Queue { client, submit });
        }
        let export = ExportPlan {
            export: 0,
            queues,
            ring: SHAPE,
            incarnation: 1,
            read_only: false,
            bitmap: None,
            cpus: vec![0; usize::from(queues)],
        };
        let filters = Filters { delay_ms, ..Filters::default() };
        let plan = BlockPlan { filters, ..BlockPlan::serving(node, vec![export]) };
        let mut process = Self { child, channel: ours, queues: ends };
        assert!(matches!(process.next(), FromHelper::Sealed(_)));
        process.tell(BlockCommand::Plan(Box::new(plan)), &fds);
        let event = process.event();
        if matches!(event, BlockEvent::Opened(_)) {
            assert!(matches!(process.event(), BlockEvent::Headers(_)));
        }
        assert!(matches!(process.next(), FromHelper::Ready));
        (process, event)
    }

    fn tell(&self, command: BlockCommand, fds: &[OwnedFd]) {
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        self.channel.send(&ToHelper::Role(command), &fds).unwrap();
    }

    fn next(&mut self) -> FromHelper<BlockEvent> {
        loop {
            match self.channel.receive_by(patience()) {
                Ok((FromHelper::Progressed, _)) => {}
                Ok((message, _)) => return message,
                Err(error) => panic!("{error}; the process: {:?}", self.child.wait()),
            }
        }
    }

    pub fn event(&mut self) -> BlockEvent {
        match self.next() {
            FromHelper::Role(event) => event,
            other => panic!("{other:?}"),
        }
    }

    pub fn heartbeat(&mut self, number: u64) -> u64 {
        self.channel.send(&ToHelper::<BlockCommand>::Heartbeat(number), &[]).unwrap();
        match self.next() {
            FromHelper::Alive { number: answered, progress } if answered == number => progress,
            other => panic!("{other:?}"),
        }
    }

    pub fn detach(&self) {
        self.tell(BlockCommand::Detach { export: 0 }, &[]);
    }

    pub fn attach(&mut self, incarnation: u64) {
        let mut fds = Vec::new();
        for queue in &mut self.queues {
            let ring = bulkhead_ring::create(geometry(), incarnation).unwrap();
            queue.client = Client::attach(&ring, geometry(), incarnation).unwrap();
            fds.push(ring);
        }
        let queues = fds.len() as u16;
        self.tell(BlockCommand::Attach { export: 0, queues, incarnation }, &fds);
    }

    pub fn submit(&mut self, queue: usize, operation: Operation, tag: u64, flags: u8) {
        let len = if operation == Operation::Flush { 0 } else { PAGE as u32 };
        let request = BlockRequest {
            tag,
            offset: tag * PAGE,
            span: tag as u32 * PAGE as u32,
            len,
            operation: operation.code(),
            flags,
            reserved: [0; 6],
        };
        let Queue { client, submit } = &mut self.queues[queue];
        client.submit.push(request).unwrap();
        client.submit.publish().ring(submit);
    }

    pub fn fill(&self, queue: usize, tag: u64, byte: u8) {
        let arena = &self.queues[queue].client.arena;
        arena.check(tag * PAGE, PAGE).unwrap().copy_out(&[byte; PAGE as usize]).unwrap();
    }

    pub fn bytes(&self, queue: usize, tag: u64) -> Vec<u8> {
        let mut bytes = vec![0; PAGE as usize];
        let arena = &self.queues[queue].client.arena;
        arena.check(tag * PAGE, PAGE).unwrap().copy_in(&mut bytes).unwrap();
        bytes
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn take(&mut self, queue: usize, count: usize) -> Vec<(u64, u32)> {
        let mut taken = Vec::new();
        while taken.len() < count {
            match self.queues[queue].client.complete.pop().unwrap() {
                Some(completion) => taken.push((completion.tag, completion.status)),
                None => self.check_alive(),
            }
        }
        taken
    }

    fn check_alive(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the process died: {status}");
        }
        std::thread::yield_now();
    }

    /// Proportional set size in bytes.
    pub fn pss(&self) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    pub fn stop(mut self) {
        self.channel.send(&ToHelper::<BlockCommand>::Stop, &[]).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    pub fn hang_up(mut self) {
        drop(self.channel);
        assert!(self.child.wait().unwrap().success());
    }
}
