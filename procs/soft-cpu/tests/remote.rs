//! The engine behind messages, as core has it in another process: here in other threads.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bulkhead_boot::Boot;
use bulkhead_channel::Channel;
use bulkhead_hypervisor::recorder::Recorder;
use bulkhead_hypervisor::remote::{Remote, VcpuEnds};
use bulkhead_hypervisor::{EngineError, Exit, Gsi, Hypervisor, IoEvent, Msi, Vcpu, Vm};
use bulkhead_memory::{Grant, GuestMemory, RamLayout, Rights};
use bulkhead_soft_cpu::Soft;
use bulkhead_soft_cpu::serve::{ServeError, Service, live};
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::poller::Poller;

const RAM: u64 = 8 << 20;
const SOON: Duration = Duration::from_secs(20);

fn ram() -> (GuestMemory, RamLayout) {
    let layout = RamLayout::new(RAM).unwrap();
    let object = bulkhead_sys::memfd::create_sealed("ram", RAM).unwrap();
    (Grant::whole(&layout, Rights::ReadWrite).map(&object).unwrap(), layout)
}

/// A machine whose engine serves in threads of its own.
struct Far {
    vm: Option<Arc<dyn Vm>>,
    main: JoinHandle<Result<(), ServeError>>,
    threads: Vec<JoinHandle<Result<(), ServeError>>>,
}

impl Far {
    fn new(engine: &dyn Hypervisor, memory: &GuestMemory, vcpus: usize) -> Self {
        let (control, its_control) = Channel::pair().unwrap();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..vcpus {
            let ((turns, its_turns), kick) = (Channel::pair().unwrap(), Doorbell::new().unwrap());
            theirs.push(VcpuEnds { turns: its_turns, kick: kick.try_clone().unwrap() });
            ours.push(VcpuEnds { turns, kick });
        }
        let (service, seats) = {
            let poller = Poller::new().unwrap();
            Service::new(engine.create_vm(memory).unwrap(), its_control, theirs, poller).unwrap()
        };
        let main = std::thread::spawn(move || service.run(&mut || Ok(true)).map(drop));
        let threads =
            seats.into_iter().map(|seat| std::thread::spawn(move || live(seat))).collect();
        let vm = Some(Remote::new(control, ours).create_vm(memory).unwrap());
        Self { vm, main, threads }
    }

    fn vm(&self) -> &dyn Vm {
        self.vm.as_deref().unwrap()
    }

    /// Core is gone: all threads end, and say that it was well.
    fn end(mut self) {
        self.vm = None;
        self.main.join().unwrap().unwrap();
        self.threads.drain(..).for_each(|thread| thread.join().unwrap().unwrap());
    }
}

fn load(code: &[u8], memory: &GuestMemory, layout: &RamLayout, vcpu: &mut dyn Vcpu) {
    let kernel = bulkhead_harness::kernel::pvh(code);
    let object = bulkhead_sys::memfd::create_sealed("kernel", kernel.len() as u64).unwrap();
    let mut file = std::fs::File::from(object);
    std::io::Write::write_all(&mut file, &kernel).unwrap();
    let boot = Boot {
        kernel: &file,
        initrd: None,
        command_line: "",
        memory,
        layout,
        cpus: 1,
        breathe: &|| {},
    };
    let mut state = vcpu.state().unwrap();
    bulkhead_boot::load(&boot).unwrap().apply(&mut state);
    vcpu.set_state(&state).unwrap();
}

#[test]
fn exits_answers_doorbells_and_state_cross_the_channels() {
    let code = [
        &[0x66, 0xba, 0xf8, 0x03, 0xb0, b'!', 0xee][..], // mov dx, 0x3f8; mov al, '!'; out dx, al
        &[0x66, 0xba, 0x60, 0x00, 0xed],                 // mov dx, 0x60; in eax, dx
        &[0xa3, 0, 0, 0, 0xd0],                          // mov [0xd0000000], eax
        &[0xa3, 0, 0x10, 0, 0xd0],                       // mov [0xd0001000], eax: a doorbell
        &[0xa1, 8, 0, 0, 0xd0],                          // mov eax, [0xd0000008]
        &[0xeb, 0xfe],                                   // again: jmp again
    ]
    .concat();
    let (memory, layout) = ram();
    let far = Far::new(&Soft, &memory, 1);
    let mut vcpu = far.vm().create_vcpu(0, 1).unwrap();
    let bell = Doorbell::new().unwrap();
    let event = IoEvent::mmio(0xd000_1000);
    far.vm().connect_ioevent(event, bell.as_fd()).unwrap();
    load(&code, &memory, &layout, &mut *vcpu);

    assert_eq!(vcpu.run().unwrap(), Exit::PioOut { port: 0x3f8, width: 1, data: b"!" });
    match vcpu.run().unwrap() {
        Exit::PioIn { port: 0x60, width: 4, data } => data.copy_from_slice(&[1, 2, 3, 4]),
        other => panic!("{other:?}"),
    }
    let write = Exit::MmioWrite { address: 0xd000_0000, data: &[1, 2, 3, 4] };
    assert_eq!(vcpu.run().unwrap(), write);
    assert!(!bell.is_rung());
    match vcpu.run().unwrap() {
        Exit::MmioRead { address: 0xd000_0008, data } => data.copy_from_slice(&[5, 6, 7, 8]),
        other => panic!("{other:?}"),
    }
    assert!(bell.clear(), "the write before was a doorbell, not an exit");
    // The read that is under way is completed before the state is told.
    let state = vcpu.state().unwrap();
    assert_eq!(state.regs.rax, 0x0807_0605);
    let kick = vcpu.kick_handle();
    let kicker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        kick.kick();
    });
    assert_eq!(vcpu.run().unwrap(), Exit::Interrupted);
    kicker.join().unwrap();
    // Back to the doorbell, which is none any more.
    far.vm().disconnect_ioevent(event, bell.as_fd()).unwrap();
    let mut state = vcpu.state().unwrap();
    state.regs.rip -= 10;
    vcpu.set_state(&state).unwrap();
    let write = Exit::MmioWrite { address: 0xd000_1000, data: &[5, 6, 7, 8] };
    assert_eq!(vcpu.run().unwrap(), write);
    drop(vcpu);
    far.end();
}

struct Recording(Arc<Recorder>);

impl Hypervisor for Recording {
    fn create_vm(&self, _memory: &GuestMemory) -> Result<Arc<dyn Vm>, EngineError> {
        Ok(Arc::clone(&self.0) as Arc<dyn Vm>)
    }
}

#[test]
fn a_call_is_an_interrupt_until_it_is_disconnected() {
    let recorder = Recorder::new();
    let (memory, _) = ram();
    let far = Far::new(&Recording(Arc::clone(&recorder)), &memory, 0);
    let messages = |count: usize| {
        let end = Instant::now() + SOON;
        while recorder.record().messages.len() < count {
            assert!(Instant::now() < end, "the interrupt never comes");
            std::thread::sleep(Duration::from_millis(1));
        }
        recorder.take_messages()
    };
    let (one, other) = (Doorbell::new().unwrap(), Doorbell::new().unwrap());
    let gsi = far.vm().allocate_gsi().unwrap();
    assert_eq!(gsi, Gsi(24));
    let msi = Msi { address: 0xfee0_0000, data: 0x41 };
    far.vm().set_routes(&[(gsi, Some(msi))]).unwrap();
    // Two calls may be the same interrupt; one was signalled before.
    one.ring();
    far.vm().connect_irqfd(one.as_fd(), gsi).unwrap();
    far.vm().connect_irqfd(other.as_fd(), gsi).unwrap();
    assert_eq!(messages(1), [msi]);
    other.ring();
    assert_eq!(messages(1), [msi]);
    far.vm().disconnect_irqfd(one.as_fd(), gsi).unwrap();
    assert!(far.vm().disconnect_irqfd(one.as_fd(), gsi).is_err());
    one.ring();
    far.vm().signal_msi(msi).unwrap();
    assert_eq!(messages(1), [msi]);
    assert!(one.is_rung(), "what nobody listens to stays in the counter");
    far.vm().set_routes(&[(gsi, None)]).unwrap();
    other.ring();
    far.vm().signal_msi(Msi { address: 1, data: 2 }).unwrap();
    assert_eq!(messages(1), [Msi { address: 1, data: 2 }]);
    far.end();
}

#[test]
fn an_engine_that_is_gone_is_an_error_at_once() {
    let (memory, _) = ram();
    let (control, its_control) = Channel::pair().unwrap();
    let (turns, its_turns) = Channel::pair().unwrap();
    let ends = VcpuEnds { turns, kick: Doorbell::new().unwrap() };
    let vm = Remote::new(control, vec![ends]).create_vm(&memory).unwrap();
    let mut vcpu = vm.create_vcpu(0, 1).unwrap();
    drop((its_control, its_turns));
    let error = vcpu.run().unwrap_err().to_string();
    assert_eq!(error, "the engine's process is gone");
    assert!(vm.signal_msi(Msi::default()).is_err());
}

/// A region of more words than a message has room for, and one that the machine has not.
#[test]
fn the_log_of_written_pages_crosses_the_channel_in_pieces() {
    const LEN: u64 = 2 << 30;
    let code = [
        &[0xb8, 0x34, 0x12, 0, 0][..], // mov eax, 0x1234
        &[0xa3, 0, 0x50, 0x30, 0],     // mov [0x305000], eax
        &[0xa3, 0, 0x70, 0xff, 0x7f],  // mov [0x7fff7000], eax
        &[0xe6, 0x80],                 // out 0x80, al
        &[0xeb, 0xf2],                 // jmp to the first store
    ]
    .concat();
    let layout = RamLayout::new(LEN).unwrap();
    let object = bulkhead_sys::memfd::create_sealed("ram", LEN).unwrap();
    let memory = Grant::whole(&layout, Rights::ReadWrite).map(&object).unwrap();
    let far = Far::new(&Soft, &memory, 1);
    let mut vcpu = far.vm().create_vcpu(0, 1).unwrap();
    load(&code, &memory, &layout, &mut *vcpu);
    far.vm().start_dirty_log().unwrap();
    for _ in 0..2 {
        assert!(matches!(vcpu.run().unwrap(), Exit::PioOut { port: 0x80, .. }));
        let log = far.vm().get_dirty_log(0).unwrap();
        let pages = (0..).zip(&log).flat_map(|(word, bits)| {
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit)
        });
        assert_eq!(pages.collect::<Vec<u64>>(), [0x305, 0x7fff7]);
    }
    assert!(far.vm().get_dirty_log(0).unwrap().iter().all(|word| *word == 0));
    far.vm().stop_dirty_log().unwrap();
    assert!(matches!(far.vm().get_dirty_log(9), Err(EngineError::Bug(_))));
    drop(vcpu);
    far.end();
}
