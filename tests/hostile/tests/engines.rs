//! What a soft-cpu that was taken over can do to core with its ends: nothing that outlives the call.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;

use bulkhead_channel::{Channel, codec};
use bulkhead_hostile::footprint::Footprint;
use bulkhead_hypervisor::remote::wire::{Answer, Halt};
use bulkhead_hypervisor::remote::{Remote, VcpuEnds};
use bulkhead_hypervisor::{EngineError, Exit, Hypervisor, Msi, Vcpu, Vm};
use bulkhead_memory::{Grant, RamLayout, Rights};
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::seqpacket;

/// Descriptors are counted for the whole process: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Core's side of a machine, and the attacker's.
struct Scene {
    vm: std::sync::Arc<dyn Vm>,
    vcpu: Box<dyn Vcpu>,
    control: Channel,
    turns: Channel,
    kick: Doorbell,
}

fn scene() -> Scene {
    let layout = RamLayout::new(1 << 20).unwrap();
    let object = bulkhead_sys::memfd::create_sealed("ram", layout.total()).unwrap();
    let memory = Grant::whole(&layout, Rights::ReadWrite).map(&object).unwrap();
    let (ours, control) = Channel::pair().unwrap();
    let ((our_turns, turns), bell) = (Channel::pair().unwrap(), Doorbell::new().unwrap());
    let kick = bell.try_clone().unwrap();
    let ends = VcpuEnds { turns: our_turns, kick: bell };
    let vm = Remote::new(ours, vec![ends]).create_vm(&memory).unwrap();
    let vcpu = vm.create_vcpu(0, 1).unwrap();
    Scene { vm, vcpu, control, turns, kick }
}

fn say(channel: &Channel, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    seqpacket::send(channel.as_fd(), bytes, fds).unwrap();
}

#[test]
fn descriptors_that_nobody_asked_for_are_closed() {
    let _turn = TURN.lock().unwrap();
    let mut scene = scene();
    let bell = Doorbell::new().unwrap();
    let many = vec![bell.as_fd(); 60];
    let before = Footprint::now();
    for _ in 0..200 {
        say(&scene.turns, &codec::encode(&Halt::Interrupted).unwrap(), &many);
        assert!(matches!(scene.vcpu.run(), Err(EngineError::Remote { .. })));
        say(&scene.control, &codec::encode(&Answer::Done).unwrap(), &many);
        assert!(scene.vm.signal_msi(Msi::default()).is_err());
        drop(seqpacket::receive(scene.turns.as_fd(), &mut [0; 64]));
        drop(seqpacket::receive(scene.control.as_fd(), &mut [0; 64]));
    }
    assert_eq!(Footprint::now().descriptors, before.descriptors);
}

#[test]
fn a_kick_whose_counter_is_full_holds_nobody() {
    let _turn = TURN.lock().unwrap();
    let scene = scene();
    let full = std::fs::File::from(scene.kick.try_clone().unwrap().into_fd());
    std::io::Write::write_all(&mut &full, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    scene.vcpu.kick_handle().kick();
    assert!(scene.kick.clear());
}

/// Answers that were sent ahead are taken for answers, one each; they leave nothing that a later exit
/// could be taken for.
#[test]
fn words_said_ahead_are_no_more_than_words() {
    let _turn = TURN.lock().unwrap();
    let mut scene = scene();
    for port in [0x3f8, 0x60] {
        say(&scene.turns, &codec::encode(&Halt::PortRead { port, width: 1 }).unwrap(), &[]);
    }
    say(&scene.turns, &codec::encode(&Halt::Done).unwrap(), &[]);
    assert!(matches!(scene.vcpu.run(), Ok(Exit::PioIn { port: 0x3f8, .. })));
    assert!(scene.vcpu.state().is_err(), "an exit is no state");
    assert!(scene.vcpu.run().is_err(), "nor is `done` an exit");
}

#[test]
fn an_end_that_is_closed_in_the_middle_is_told_at_once() {
    let _turn = TURN.lock().unwrap();
    let Scene { vm, mut vcpu, control, turns, .. } = scene();
    say(&turns, &codec::encode(&Halt::Eoi(3)).unwrap(), &[]);
    drop((control, turns));
    // What it has said may still be taken; then it is gone.
    let last = (0..2).map(|_| vcpu.run().is_ok()).collect::<Vec<_>>();
    assert_eq!(last.last(), Some(&false));
    assert!(vm.signal_msi(Msi::default()).is_err());
}
