//! The supervisor's and the clients' part.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bulkhead_channel::Channel;
use bulkhead_protocol::VERSION;
use bulkhead_protocol::control::{FromSupervisor, Request, Response, ToSupervisor};
use bulkhead_protocol::start::{FromHelper, ToHelper};
use bulkhead_sys::clock::Deadline;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use tempfile::TempDir;

/// What is lost when a test machine is slow is patience only.
fn patience() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

pub struct Process {
    child: Child,
    channel: Channel,
    folder: TempDir,
}

impl Process {
    pub fn start() -> Self {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-control"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).env_clear();
        let child = bulkhead_sys::spawn::spawn(&mut command, &[(theirs.as_fd(), 3)]).unwrap();
        let mut process = Self { child, channel: ours, folder: TempDir::new().unwrap() };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        bind(listener.as_raw_fd(), &process.address()).unwrap();
        listen(&listener, Backlog::new(64).unwrap()).unwrap();
        let listener = UnixListener::from(listener);
        assert!(matches!(process.next(), FromHelper::Sealed(_)));
        process.tell(FromSupervisor::Plan, &[listener.as_fd()]);
        assert!(matches!(process.next(), FromHelper::Ready));
        process
    }

    fn address(&self) -> UnixAddr {
        UnixAddr::new(&self.folder.path().join("control")).unwrap()
    }

    pub fn connect(&self) -> Channel {
        let kind = SockType::SeqPacket;
        let socket = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(socket.as_raw_fd(), &self.address()).unwrap();
        Channel::from_fd(socket)
    }

    /// A connection that has said hello. The crowd before it may still be there; then it waits.
    pub fn client(&self) -> Channel {
        let until = patience();
        loop {
            let client = self.connect();
            let hello = client.call(&Request::Hello { version: VERSION }, &[], patience());
            match hello {
                Ok((Response::Done, _)) => return client,
                _ if until.has_passed() => panic!("no room for a client: {hello:?}"),
                _ => std::thread::yield_now(),
            }
        }
    }

    pub fn tell(&self, command: FromSupervisor, fds: &[BorrowedFd<'_>]) {
        self.channel.send_by(&ToHelper::Role(command), fds, patience()).unwrap();
    }

    fn next(&mut self) -> FromHelper<ToSupervisor> {
        match self.channel.receive_by(patience()) {
            Ok((message, _)) => message,
            Err(error) => panic!("{error}; the process: {:?}", self.child.wait()),
        }
    }

    pub fn call(&mut self) -> ToSupervisor {
        match self.next() {
            FromHelper::Role(call) => call,
            other => panic!("{other:?}"),
        }
    }

    /// Answers counted so far.
    pub fn heartbeat(&mut self, number: u64) -> u64 {
        self.channel.send(&ToHelper::<FromSupervisor>::Heartbeat(number), &[]).unwrap();
        match self.next() {
            FromHelper::Alive { number: answered, progress } if answered == number => progress,
            other => panic!("{other:?}"),
        }
    }

    pub fn stop(mut self) {
        self.channel.send(&ToHelper::<FromSupervisor>::Stop, &[]).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    pub fn hang_up(mut self) {
        drop(self.channel);
        assert!(self.child.wait().unwrap().success());
    }
}

pub fn hear(client: &Channel) -> (Response, Vec<OwnedFd>) {
    client.receive_by(patience()).unwrap()
}
