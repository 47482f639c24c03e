//! A soft-cpu that somebody else has taken over: whatever its ends of the channels say, core's vCPU
//! either gets an exit that the machine's devices can answer, or an error that can be printed.

use std::os::fd::AsFd;

use bulkhead_channel::{Channel, codec};
use bulkhead_hypervisor::remote::wire::{Answer, Halt};
use bulkhead_hypervisor::remote::{Remote, VcpuEnds};
use bulkhead_hypervisor::x86_64::VcpuState;
use bulkhead_hypervisor::{EngineError, Exit, Gsi, Hypervisor, Msi, Vcpu, Vm};
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::seqpacket;

use super::machine::Board;
use super::{Verdict, guest};
use crate::draw::Draw;

/// Most turns of a script.
const MOST: usize = 100;

/// Plays a script; accepted: an exit was answered, or an order obeyed.
pub fn run(bytes: &[u8]) -> Verdict {
    let (control, its_control) = Channel::pair().expect("a channel");
    let (turns, its_turns) = Channel::pair().expect("a channel");
    let ends = VcpuEnds { turns, kick: Doorbell::new().expect("a doorbell") };
    let (memory, _) = guest::ram(0x1000);
    let vm = Remote::new(control, vec![ends]).create_vm(&memory).expect("a machine");
    let mut vcpu = vm.create_vcpu(0, 1).expect("a vCPU");
    let board = Board::new();
    let mut draw = Draw::new(bytes);
    let mut accepted = false;
    for _ in 0..MOST {
        if draw.is_over() {
            break;
        }
        let kind = draw.byte();
        let said = if kind & 0x80 != 0 {
            say(&its_control, &answer(&mut draw, kind));
            order(&*vm, kind)
        } else {
            say(&its_turns, &halt(&mut draw, kind));
            turn(&mut *vcpu, &board, kind)
        };
        match said {
            Ok(()) => accepted = true,
            Err(error) => check(&error),
        }
        // What core says is taken off, so that there is room for the next.
        while matches!(its_turns.try_receive::<Nothing>(), Err(error) if is_message(&error)) {}
        while matches!(its_control.try_receive::<Nothing>(), Err(error) if is_message(&error)) {}
    }
    Verdict::accepted_if(accepted)
}

/// No message decodes as this: all are taken off unread.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
enum Nothing {}
impl bulkhead_channel::Message for Nothing {}

fn is_message(error: &bulkhead_channel::ChannelError) -> bool {
    matches!(error, bulkhead_channel::ChannelError::Codec(_))
        || matches!(error, bulkhead_channel::ChannelError::Descriptors { .. })
}

/// An error of a peer is short and printable, however long the peer has talked.
fn check(error: &EngineError) {
    let text = error.to_string();
    assert!(text.len() < 512 && !text.contains(char::is_control), "{text:?}");
}

fn say(channel: &Channel, bytes: &[u8]) {
    // At least a byte: an empty datagram is a hang-up.
    let bytes = if bytes.is_empty() { &[0][..] } else { bytes };
    seqpacket::send(channel.as_fd(), bytes, &[]).expect("room for a message");
}

fn turn(vcpu: &mut dyn Vcpu, board: &Board, kind: u8) -> Result<(), EngineError> {
    match kind / 16 % 8 {
        6 => vcpu.state().map(drop),
        7 => vcpu.set_state(&VcpuState::default()),
        _ => dispatch(vcpu.run()?, board),
    }
}

/// As core does.
fn dispatch(exit: Exit<'_>, board: &Board) -> Result<(), EngineError> {
    match exit {
        Exit::PioIn { port, width, data } => {
            assert!(matches!(width, 1 | 2 | 4) && data.len() == usize::from(width));
            board.bus.read(port.into(), data);
        }
        Exit::PioOut { port, width, data } => {
            assert!(matches!(width, 1 | 2 | 4) && data.len() == usize::from(width));
            board.bus.write(port.into(), data);
        }
        Exit::MmioRead { address, data } => {
            assert!((1..=8).contains(&data.len()));
            board.bus.read(address, data);
        }
        Exit::MmioWrite { address, data } => {
            assert!((1..=8).contains(&data.len()));
            board.bus.write(address, data);
        }
        Exit::Eoi(vector) => board.ioapic.end_of_interrupt(vector),
        _ => {}
    }
    Ok(())
}

fn order(vm: &dyn Vm, kind: u8) -> Result<(), EngineError> {
    match kind % 2 {
        0 => vm.signal_msi(Msi { address: 0xfee0_0000, data: 0x41 }),
        _ => vm.set_routes(&[(Gsi(24), None)]),
    }
}

fn halt(draw: &mut Draw<'_>, kind: u8) -> Vec<u8> {
    let halt = match kind % 16 {
        0 | 1 => Halt::PortRead { port: draw.half(), width: draw.byte() % 10 },
        2 | 3 => Halt::PortWrite { port: draw.half(), width: draw.byte() % 10, value: draw.long() },
        4 | 5 => Halt::MemoryRead { address: draw.long(), width: draw.byte() % 10 },
        6 | 7 => {
            Halt::MemoryWrite { address: draw.long(), width: draw.byte() % 10, value: draw.long() }
        }
        8 => Halt::Eoi(draw.byte()),
        9 => Halt::State(Box::default()),
        10 => Halt::Done,
        11 => Halt::Failed(text(draw)),
        12 => Halt::Shutdown,
        13 => Halt::Interrupted,
        _ => return draw.bytes(64).to_vec(),
    };
    codec::encode(&halt).expect("a message")
}

fn answer(draw: &mut Draw<'_>, kind: u8) -> Vec<u8> {
    match kind / 2 % 4 {
        0 => codec::encode(&Answer::Done),
        1 => codec::encode(&Answer::Refused(text(draw))),
        _ => Ok(draw.bytes(32).to_vec()),
    }
    .expect("a message")
}

/// Long, and of anything.
fn text(draw: &mut Draw<'_>) -> String {
    let piece = String::from_utf8_lossy(draw.bytes(16)).into_owned();
    piece.repeat(usize::from(draw.half() % 1000))
}

/// Each halt once, with the widths that there are; and words to clear a terminal with.
pub fn samples() -> Vec<Vec<u8>> {
    let mut port = vec![0, 0xf8, 3, 1, 2, 0xf8, 3, 1];
    port.extend(0x21u64.to_le_bytes());
    let mut memory = vec![4];
    memory.extend(0xfec0_0000u64.to_le_bytes());
    memory.extend([4, 6]);
    memory.extend(0xfec0_0010u64.to_le_bytes());
    memory.push(4);
    memory.extend(7u64.to_le_bytes());
    let mut highest = vec![6];
    highest.extend(u64::MAX.to_le_bytes());
    highest.push(8);
    let mut words = vec![11];
    words.extend(b"\x1b[2J\x1b[31mall well");
    words.extend([0xe7, 3]);
    let rest = vec![8, 0x41, 0x69, 0x7a, 13, 0x80, 0x81];
    let wide = vec![0, 0x60, 0, 3, 0, 0x60, 0, 8];
    vec![port, memory, highest, words, rest, wide]
}
