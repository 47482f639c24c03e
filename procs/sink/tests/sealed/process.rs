//! The supervisor's, the device's and the viewers' part.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bulkhead_channel::Channel;
use bulkhead_protocol::sink::SinkCommand;
use bulkhead_protocol::start::{FromHelper, Nothing, ToHelper};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::seqpacket;

/// What is lost when a test machine is slow is patience only.
fn patience() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

pub struct Process {
    child: Child,
    channel: Channel,
    device: OwnedFd,
}

impl Process {
    pub fn start(history: u32) -> Self {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-sink"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).env_clear();
        let child = bulkhead_sys::spawn::spawn(&mut command, &[(theirs.as_fd(), 3)]).unwrap();
        let (device, stream) = seqpacket::stream_pair().unwrap();
        let mut process = Self { child, channel: ours, device };
        assert!(matches!(process.next(), FromHelper::Sealed(_)));
        process.tell(SinkCommand::Plan { history }, &stream);
        assert!(matches!(process.next(), FromHelper::Ready));
        process
    }

    pub fn device(&self) -> &OwnedFd {
        &self.device
    }

    pub fn replace_device(&mut self, device: OwnedFd) {
        self.device = device;
    }

    pub fn viewer(&self) -> OwnedFd {
        let (ours, theirs) = seqpacket::stream_pair().unwrap();
        self.tell(SinkCommand::Viewer, &theirs);
        ours
    }

    pub fn tell(&self, command: SinkCommand, fd: &OwnedFd) {
        self.channel.send_by(&ToHelper::Role(command), &[fd.as_fd()], patience()).unwrap();
    }

    /// Writes output. The process always makes room, or it is at fault.
    pub fn write(&self, bytes: &[u8]) {
        let mut rest = bytes;
        let until = patience();
        while !rest.is_empty() {
            match seqpacket::send_some(self.device.as_fd(), rest, &[]) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if until.has_passed() => panic!("the sink does not read: {error}"),
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    /// Waits until the process has counted `seen` bytes of output.
    pub fn wait_until_seen(&mut self, seen: u64) {
        let until = patience();
        while self.heartbeat(seen) < seen {
            assert!(!until.has_passed(), "{seen} bytes never arrived");
        }
    }

    fn next(&mut self) -> FromHelper<Nothing> {
        match self.channel.receive_by(patience()) {
            Ok((message, _)) => message,
            Err(error) => panic!("{error}; the process: {:?}", self.child.wait()),
        }
    }

    fn heartbeat(&mut self, number: u64) -> u64 {
        self.channel.send(&ToHelper::<SinkCommand>::Heartbeat(number), &[]).unwrap();
        match self.next() {
            FromHelper::Alive { number: answered, progress } if answered == number => progress,
            other => panic!("{other:?}"),
        }
    }

    pub fn stop(mut self) {
        self.channel.send(&ToHelper::<SinkCommand>::Stop, &[]).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    pub fn hang_up(mut self) {
        drop(self.channel);
        assert!(self.child.wait().unwrap().success());
    }
}

/// Reads exactly `len` bytes.
pub fn read(from: &OwnedFd, len: usize) -> Vec<u8> {
    let mut all = vec![0; len];
    let mut done = 0;
    while done < len {
        let datagram = seqpacket::receive_by(from.as_fd(), &mut all[done..], patience()).unwrap();
        assert!(datagram.len > 0, "the stream ended after {done} of {len} bytes");
        done += datagram.len;
    }
    all
}
