//! A supervisor for one core: starts the real binary, hands it a plan, hears its events.
//!
//! The process is sealed as in production; of its jail there is only the pid namespace, which its
//! filter relies on (a core kicks its own threads as process number 1).

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bulkhead_channel::Channel;
use bulkhead_protocol::core::{CoreCommand, CoreEvent, CorePlan};
use bulkhead_protocol::start::{CHANNEL_FD, FromHelper, ToHelper};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::{memfd, seqpacket, spawn};

/// Guards against a hang; nothing is measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// A core and what its supervisor holds of it.
pub struct Stage {
    process: Child,
    channel: Channel,
    /// Our end of the serial stream.
    pub serial: OwnedFd,
}

/// What to run.
pub struct Script<'a> {
    pub cpus: u8,
    pub memory: u64,
    pub kernel: &'a [u8],
    /// The serial stream has no room for a single byte.
    pub stuffed: bool,
    /// The machine has the debug-exit port at [`DEBUG_EXIT`].
    pub debug_exit: bool,
}

pub fn deadline() -> Deadline {
    Deadline::after(PATIENCE)
}

/// A sealed object with these bytes, as good as an open file.
pub fn file(bytes: &[u8]) -> OwnedFd {
    let mut file = std::fs::File::from(memfd::create_sealed("file", bytes.len() as u64).unwrap());
    file.write_all(bytes).unwrap();
    file.into()
}

impl Stage {
    /// Starts a core and sends it its plan. `None`, and a word about it, where there is no KVM.
    pub fn new(script: &Script<'_>) -> Option<Self> {
        let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
        let Ok(kvm) = device else {
            eprintln!("skipped: no /dev/kvm");
            return None;
        };
        let (ours, theirs) = Channel::pair().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", env!("CARGO_BIN_EXE_bulkhead-core")]);
        command.arg(script.cpus.to_string()).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        let process = spawn::spawn(&mut command, &[(theirs.as_fd(), CHANNEL_FD)]).unwrap();
        drop(theirs);
        let (serial, its_serial) = seqpacket::stream_pair().unwrap();
        while script.stuffed && seqpacket::send_some(its_serial.as_fd(), &[0; 4096], &[]).is_ok() {}
        let stage = Self { process, channel: ours, serial };
        assert!(matches!(stage.hear(), FromHelper::Sealed(_)));
        let ram = memfd::create_sealed("ram", script.memory).unwrap();
        let kernel = file(script.kernel);
        let plan = CorePlan {
            cpus: script.cpus.into(),
            memory: script.memory,
            engine: bulkhead_protocol::core::EngineKind::Kvm,
            append: "quiet".into(),
            debug_exit: script.debug_exit.then_some(DEBUG_EXIT),
            waits_for_debugger: false,
            initrd: false,
            devices: Vec::new(),
        };
        let kvm = OwnedFd::from(kvm);
        let fds = [kvm.as_fd(), ram.as_fd(), its_serial.as_fd(), kernel.as_fd()];
        stage.send(ToHelper::Role(CoreCommand::Plan(Box::new(plan))), &fds);
        Some(stage)
    }

    /// As [`Stage::new`], up to the guest's first instruction.
    pub fn running(script: &Script<'_>) -> Option<Self> {
        let stage = Self::new(script)?;
        assert!(matches!(stage.hear(), FromHelper::Ready));
        stage.command(CoreCommand::Run);
        assert_eq!(stage.event(), CoreEvent::Running);
        Some(stage)
    }

    pub fn send(&self, message: ToHelper<CoreCommand>, fds: &[std::os::fd::BorrowedFd<'_>]) {
        self.channel.send_by(&message, fds, deadline()).unwrap();
    }

    pub fn command(&self, command: CoreCommand) {
        self.send(ToHelper::Role(command), &[]);
    }

    /// The next message.
    pub fn hear(&self) -> FromHelper<CoreEvent> {
        self.channel.receive_by(deadline()).unwrap().0
    }

    /// The next event; anything else is a failure.
    pub fn event(&self) -> CoreEvent {
        match self.hear() {
            FromHelper::Role(event) => event,
            other => panic!("{other:?} is no event"),
        }
    }

    /// Reads the serial stream until it ends with `end`.
    pub fn read_until(&self, end: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        let deadline = deadline();
        while !text.ends_with(end) {
            let mut piece = [0; 4096];
            let got = seqpacket::receive_by(self.serial.as_fd(), &mut piece, deadline).unwrap();
            assert_ne!(got.len, 0, "the stream ended after {:?}", String::from_utf8_lossy(&text));
            text.extend(&piece[..got.len]);
        }
        text
    }

    /// Tells it to stop, and returns its exit status.
    pub fn stop(mut self) -> Option<i32> {
        self.send(ToHelper::Stop, &[]);
        self.process.wait().unwrap().code()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // The core itself dies a moment after its parent: its end of the channel tells when.
        while self.channel.receive_by::<FromHelper<CoreEvent>>(deadline()).is_ok() {}
    }
}

/// Where a debug-exit port is.
pub const DEBUG_EXIT: u16 = 0xf4;

/// A kernel of this code with a multiboot header, loaded and entered right behind it.
pub fn multiboot_kernel(code: &[u8]) -> Vec<u8> {
    let (magic, flags, at) = (0x1bad_b002u32, 1 << 16, CODE);
    let checksum = 0u32.wrapping_sub(magic).wrapping_sub(flags);
    let mut file = [magic, flags, checksum, at, at, 0, 0, at + 32].map(u32::to_le_bytes).concat();
    file.extend(code);
    file
}

/// Where guest code is loaded and entered, in flat 32-bit protected mode.
pub const CODE: u32 = 0x10_0000;

/// A kernel (ELF with a PVH note) of this code.
pub fn kernel(code: &[u8]) -> Vec<u8> {
    let notes_at = 64 + 2 * 56;
    let mut notes = [4u32, 4, 18].map(u32::to_le_bytes).concat();
    notes.extend(b"Xen\0");
    notes.extend(CODE.to_le_bytes());
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2u16, 62].map(u16::to_le_bytes).concat());
    file.extend(1u32.to_le_bytes());
    file.extend([0u64, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, 2, 0, 0, 0].map(u16::to_le_bytes).concat());
    let mut segment = |kind: u32, offset: u64, address: u64, len: u64| {
        file.extend([kind, 7].map(u32::to_le_bytes).concat());
        file.extend([offset, address, address, len, len, 4].map(u64::to_le_bytes).concat());
    };
    segment(1, 4096, CODE.into(), code.len() as u64);
    segment(4, notes_at, 0, notes.len() as u64);
    file.extend(notes);
    file.resize(4096, 0);
    file.extend(code);
    file
}

/// 32-bit code, piece by piece.
pub mod code {
    /// `mov dx, port`.
    fn port(port: u16) -> Vec<u8> {
        let [low, high] = port.to_le_bytes();
        vec![0x66, 0xba, low, high]
    }

    /// Writes text to the serial port, without looking whether it is idle.
    pub fn print(text: &str) -> Vec<u8> {
        let mut code = port(0x3f8);
        code.extend(text.bytes().flat_map(|byte| [0xb0, byte, 0xee]));
        code
    }

    /// The letter of a flood.
    pub const FLOOD: u8 = b'z';

    /// Writes one letter `count` times to the serial port, sixteen after each look whether it is idle.
    pub fn flood(count: usize) -> Vec<u8> {
        // mov ecx, rounds; again: busy: mov dx, 0x3fd; in al, dx; test al, 0x20; jz busy
        let mut code = vec![0xb9];
        code.extend((count as u32 / 16).to_le_bytes());
        code.extend(wait_for(0x3fd, 0x20));
        code.extend(port(0x3f8));
        code.extend([0xb0, FLOOD]);
        code.extend([0xee; 16]);
        // loop again
        let back = 5i8 - code.len() as i8 - 2;
        code.extend([0xe2, back as u8]);
        code
    }

    /// `out port, byte`.
    pub fn out8(to: u16, value: u8) -> Vec<u8> {
        let mut code = port(to);
        code.extend([0xb0, value, 0xee]);
        code
    }

    /// `out port, word`.
    pub fn out16(to: u16, value: u16) -> Vec<u8> {
        let mut code = port(to);
        let [low, high] = value.to_le_bytes();
        code.extend([0x66, 0xb8, low, high, 0x66, 0xef]);
        code
    }

    /// Reads a port until `mask` has a bit in it.
    pub fn wait_for(from: u16, mask: u8) -> Vec<u8> {
        let mut code = port(from);
        // again: in al, dx; test al, mask; jz again
        code.extend([0xec, 0xa8, mask, 0x74, 0xfb]);
        code
    }

    /// `cmp eax, value; jne end` around `code`.
    pub fn if_eax_is(value: u32, code: &[u8]) -> Vec<u8> {
        let mut all = vec![0x3d];
        all.extend(value.to_le_bytes());
        all.extend([0x75, code.len() as u8]);
        all.extend(code);
        all
    }

    /// Switches the machine off by ACPI.
    pub fn power_off() -> Vec<u8> {
        let mut code = out16(0x604, 5 << 10 | 1 << 13);
        code.extend(halt());
        code
    }

    /// `again: hlt; jmp again`.
    pub fn halt() -> Vec<u8> {
        vec![0xf4, 0xeb, 0xfd]
    }
}
