//! Boots a kernel on the real core binary without a supervisor or any device process of ours: for finding
//! out whether a fault is core's own.
//!
//! `alone CORE CPUS MEBIBYTES KERNEL INITRD|- COMMAND-LINE [SOCKET…]`: the serial port is stdin and
//! stdout, events go to stderr. Each socket is one of a foreign vhost-user-blk backend. Resets boot
//! again. Only the pid namespace of the jail is there (see tests/stage).

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_channel::Channel;
use bulkhead_protocol::core::{
    BackendKind, CoreCommand, CoreEvent, CorePlan, DeviceKind, DevicePlan,
};
use bulkhead_protocol::start::{CHANNEL_FD, FromHelper, ToHelper};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::{memfd, seqpacket, spawn};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, core, cpus, mebibytes, kernel, initrd, append, sockets @ ..] = &arguments[..] else {
        anyhow::bail!("usage: alone CORE CPUS MEBIBYTES KERNEL INITRD|- COMMAND-LINE [SOCKET…]");
    };
    let kvm = File::options().read(true).write(true).open("/dev/kvm")?;
    let memory = mebibytes.parse::<u64>()? << 20;
    let ram = memfd::create_sealed("ram", memory)?;
    let images = || -> anyhow::Result<Vec<OwnedFd>> {
        let mut images = vec![OwnedFd::from(File::open(kernel)?)];
        if initrd != "-" {
            images.push(File::open(initrd)?.into());
        }
        Ok(images)
    };
    let (ours, theirs) = Channel::pair()?;
    let mut command = Command::new("unshare");
    command.args(["-p", "-f", core, cpus]).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    command.env("PATH", std::env::var("PATH")?);
    let _process = spawn::spawn(&mut command, &[(theirs.as_fd(), CHANNEL_FD)])?;
    drop(theirs);
    let (serial, its_serial) = seqpacket::stream_pair()?;
    relay(serial.into())?;
    let started = Instant::now();
    let send = |command, fds: &[BorrowedFd<'_>]| {
        let deadline = Deadline::after(Duration::from_secs(10));
        ours.send_by(&ToHelper::Role(command), fds, deadline)
    };
    loop {
        let deadline = Deadline::after(Duration::from_secs(3600));
        let (message, _) = ours.receive_by::<FromHelper<CoreEvent>>(deadline)?;
        eprintln!("alone: {:?} {message:?}", started.elapsed());
        match message {
            FromHelper::Sealed(_) => {
                let plan = CorePlan {
                    cpus: cpus.parse()?,
                    memory,
                    append: append.clone(),
                    engine: bulkhead_protocol::core::EngineKind::Kvm,
                    debug_exit: None,
                    waits_for_debugger: false,
                    initrd: initrd != "-",
                    devices: sockets.iter().map(|socket| disk(socket)).collect(),
                };
                let images = images()?;
                let mut fds = vec![kvm.as_fd(), ram.as_fd(), its_serial.as_fd()];
                fds.extend(images.iter().map(AsFd::as_fd));
                send(CoreCommand::Plan(Box::new(plan)), &fds)?;
            }
            FromHelper::Ready => {
                for (device, socket) in (0..).zip(sockets) {
                    let bells: Vec<_> =
                        (0..2 * QUEUES).map(|_| Doorbell::new()).collect::<Result<_, _>>()?;
                    let fds: Vec<_> = bells.iter().map(AsFd::as_fd).collect();
                    send(CoreCommand::Device { device, fds: 2 * QUEUES }, &fds)?;
                    let (socket, pair) = (UnixStream::connect(socket)?, UnixStream::pair()?);
                    let fds = [socket.as_fd(), pair.0.as_fd(), pair.1.as_fd()];
                    send(CoreCommand::DeviceConnected { device }, &fds)?;
                }
                send(CoreCommand::Run, &[])?;
            }
            FromHelper::Role(CoreEvent::ResetRequested) => {
                let images = images()?;
                let fds: Vec<_> = images.iter().map(AsFd::as_fd).collect();
                send(CoreCommand::Boot { initrd: initrd != "-" }, &fds)?;
            }
            FromHelper::Role(CoreEvent::PoweredOff) => return Ok(()),
            FromHelper::Role(CoreEvent::Crashed(crash)) => anyhow::bail!("crashed: {crash}"),
            FromHelper::Role(CoreEvent::Refused { reason, .. }) => {
                anyhow::bail!("refused: {reason}")
            }
            FromHelper::Role(_) | FromHelper::Alive { .. } | FromHelper::Progressed => {}
        }
    }
}

const QUEUES: u16 = 1;

fn disk(socket: &str) -> DevicePlan {
    DevicePlan {
        id: socket.into(),
        kind: DeviceKind::Blk,
        backend: BackendKind::Foreign,
        queues: QUEUES,
        queue_size: 128,
    }
}

/// Copies the serial stream to stdout and stdin to it.
fn relay(stream: UnixStream) -> anyhow::Result<()> {
    let (mut from_guest, mut to_guest) = (stream.try_clone()?, stream);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from_guest.read(&mut bytes) {
            let mut stdout = std::io::stdout();
            let _ = stdout.write_all(&bytes[..count]);
            let _ = stdout.flush();
        }
    });
    std::thread::spawn(move || std::io::copy(&mut std::io::stdin(), &mut to_guest));
    Ok(())
}
