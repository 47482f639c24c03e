//! The KVM engine against the real `/dev/kvm`, with guests of a few bytes.
//!
//! Where there is no usable `/dev/kvm` each test says so and passes: there is nothing to test.

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_hypervisor::kvm::{Kvm, kick};
use bulkhead_hypervisor::{
    DataMatch, DebugStop, EngineError, Exit, Gsi, GuestDebug, Hypervisor, IoAddress, IoEvent, Msi,
    Vcpu, Vm, Watch,
};
use bulkhead_memory::{Grant, GuestMemory, GuestRange, RamLayout, Rights};
use bulkhead_sys::eventfd::Doorbell;

/// Where guest code is put. Its stack grows down from here.
const CODE: u64 = 0x8000;

struct Guest {
    vm: Arc<dyn Vm>,
    memory: GuestMemory,
    vcpu: Box<dyn Vcpu>,
}

fn memory() -> GuestMemory {
    let layout = RamLayout::new(2 << 20).unwrap();
    let memfd = bulkhead_sys::memfd::create_sealed("ram", layout.total()).unwrap();
    Grant::whole(&layout, Rights::ReadWrite).map(&memfd).unwrap()
}

/// A vCPU in 16-bit real mode about to execute `code`; `None` (and a word about it) without KVM.
fn guest(code: &[u8]) -> Option<Guest> {
    let Ok(device) = OpenOptions::new().read(true).write(true).open("/dev/kvm") else {
        eprintln!("skipped: no /dev/kvm");
        return None;
    };
    kick::install().unwrap();
    let kvm = match Kvm::from_fd(device.into()) {
        Err(EngineError::Unsupported { missing }) => {
            eprintln!("skipped: this KVM lacks {missing}");
            return None;
        }
        other => other.unwrap(),
    };
    let memory = memory();
    let vm = kvm.create_vm(&memory).unwrap();
    memory.check(GuestRange::new(CODE, code.len() as u64)).unwrap().copy_out(code).unwrap();
    let mut vcpu = vm.create_vcpu(0, 1).unwrap();
    let mut state = vcpu.state().unwrap();
    state.sregs.cs.base = 0;
    state.sregs.cs.selector = 0;
    state.regs.rip = CODE;
    state.regs.rsp = CODE;
    state.regs.rflags = 2;
    vcpu.set_state(&state).unwrap();
    Some(Guest { vm, memory, vcpu })
}

/// Enables the local APIC of a vCPU and interrupts, with `vector`'s handler at `handler` (real mode).
fn accept_interrupts(guest: &mut Guest, vector: u8, handler: u16) {
    let slot = GuestRange::new(u64::from(vector) * 4, 4);
    let entry = [handler.to_le_bytes(), [0, 0]].concat();
    guest.memory.check(slot).unwrap().copy_out(&entry).unwrap();
    let mut state = guest.vcpu.state().unwrap();
    // Spurious interrupt vector register: bit 8 switches the APIC on.
    state.lapic.regs[0xf0] = -1;
    state.lapic.regs[0xf1] = 1;
    state.regs.rflags |= 1 << 9;
    guest.vcpu.set_state(&state).unwrap();
}

fn message(vector: u8) -> Msi {
    Msi { address: 0xfee0_0000, data: u32::from(vector) }
}

#[test]
fn a_port_write_exits_with_port_width_and_data() {
    // mov dx, 0x3f8; mov al, 'B'; out dx, al; hlt
    let Some(mut guest) = guest(&[0xba, 0xf8, 0x03, 0xb0, b'B', 0xee, 0xf4]) else { return };
    let exit = guest.vcpu.run().unwrap();
    assert_eq!(exit, Exit::PioOut { port: 0x3f8, width: 1, data: b"B" });
}

#[test]
fn a_port_read_gets_what_was_filled_in() {
    // mov dx, 0x70; in eax, dx; mov dx, 0x80; out dx, eax
    let code = [0xba, 0x70, 0x00, 0x66, 0xed, 0xba, 0x80, 0x00, 0x66, 0xef];
    let Some(mut guest) = guest(&code) else { return };
    let Exit::PioIn { port: 0x70, width: 4, data } = guest.vcpu.run().unwrap() else { panic!() };
    data.copy_from_slice(&[1, 2, 3, 4]);
    let exit = guest.vcpu.run().unwrap();
    assert_eq!(exit, Exit::PioOut { port: 0x80, width: 4, data: &[1, 2, 3, 4] });
}

#[test]
fn a_repeated_port_read_keeps_its_width() {
    // mov dx, 0x70; mov cx, 4; mov di, 0x500; rep insw; mov dx, 0x80; mov ax, [0x506]; out dx, ax
    let code = [
        0xba, 0x70, 0x00, 0xb9, 0x04, 0x00, 0xbf, 0x00, 0x05, 0xf3, 0x6d, 0xba, 0x80, 0x00, 0xa1,
        0x06, 0x05, 0xef,
    ];
    let Some(mut guest) = guest(&code) else { return };
    let mut reads = 0;
    loop {
        match guest.vcpu.run().unwrap() {
            Exit::PioIn { port: 0x70, width: 2, data } => {
                assert_eq!(data.len() % 2, 0);
                for word in data.chunks_exact_mut(2) {
                    reads += 1;
                    word.copy_from_slice(&[reads, 0xee]);
                }
            }
            Exit::PioOut { port: 0x80, width: 2, data } => {
                assert_eq!(data, [4, 0xee]);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(reads, 4);
}

#[test]
fn accesses_where_no_ram_is_exit_with_their_address() {
    // mov ax, 0xf000 ×  mov ds: the 2 MiB of RAM cover real mode, so use an unreal 32-bit address:
    // mov ebx, 0x10000000; mov byte [ebx], 0x5a; mov al, [ebx+4]; out 0x80, al
    let code = [
        0x66, 0xbb, 0x00, 0x00, 0x00, 0x10, 0x67, 0xc6, 0x03, 0x5a, 0x67, 0x8a, 0x43, 0x04, 0xe6,
        0x80,
    ];
    let Some(mut guest) = guest(&code) else { return };
    let mut state = guest.vcpu.state().unwrap();
    state.sregs.ds.limit = u32::MAX;
    state.sregs.ds.g = 1;
    guest.vcpu.set_state(&state).unwrap();
    let exit = guest.vcpu.run().unwrap();
    assert_eq!(exit, Exit::MmioWrite { address: 0x1000_0000, data: &[0x5a] });
    let Exit::MmioRead { address: 0x1000_0004, data } = guest.vcpu.run().unwrap() else { panic!() };
    data.copy_from_slice(&[0x77]);
    let exit = guest.vcpu.run().unwrap();
    assert_eq!(exit, Exit::PioOut { port: 0x80, width: 1, data: &[0x77] });
}

#[test]
fn written_pages_are_told_once_a_round() {
    // mov [0x3000], al; out 0x80, al; jmp to the beginning
    let code = [0xa2, 0x00, 0x30, 0xe6, 0x80, 0xeb, 0xf9];
    let Some(mut guest) = guest(&code) else { return };
    let is_noted = |log: &[u64]| log[0] >> 3 & 1 == 1;
    guest.vm.start_dirty_log().unwrap();
    for _ in 0..3 {
        assert!(matches!(guest.vcpu.run().unwrap(), Exit::PioOut { port: 0x80, .. }));
        let log = guest.vm.get_dirty_log(0).unwrap();
        assert!(is_noted(&log) && log.len() == 8, "{log:x?}");
        assert!(!is_noted(&guest.vm.get_dirty_log(0).unwrap()));
    }
    guest.vm.stop_dirty_log().unwrap();
    assert!(matches!(guest.vm.get_dirty_log(7), Err(EngineError::Bug(_))));
}

#[test]
fn a_triple_fault_is_a_shutdown() {
    // ud2, in flat 32-bit protected mode with no interrupt table at all
    let Some(mut guest) = guest(&[0x0f, 0x0b]) else { return };
    let mut state = guest.vcpu.state().unwrap();
    state.sregs.cr0 |= 1;
    (state.sregs.idt.base, state.sregs.idt.limit) = (0, 0);
    for segment in [&mut state.sregs.cs, &mut state.sregs.ss, &mut state.sregs.ds] {
        (segment.limit, segment.g, segment.db, segment.selector) = (u32::MAX, 1, 1, 0x10);
    }
    (state.sregs.cs.type_, state.sregs.cs.selector) = (0xb, 8);
    guest.vcpu.set_state(&state).unwrap();
    assert_eq!(guest.vcpu.run().unwrap(), Exit::Shutdown);
}

#[test]
fn a_matching_write_rings_the_doorbell_without_an_exit() {
    // mov dx, 0x600; mov ax, 7; out dx, ax; mov ax, 8; out dx, ax
    let code = [0xba, 0x00, 0x06, 0xb8, 0x07, 0x00, 0xef, 0xb8, 0x08, 0x00, 0xef];
    let Some(mut guest) = guest(&code) else { return };
    let bell = Doorbell::new().unwrap();
    let event = IoEvent { address: IoAddress::Pio(0x600), data: DataMatch::U16(7) };
    guest.vm.connect_ioevent(event, bell.as_fd()).unwrap();
    let exit = guest.vcpu.run().unwrap();
    assert_eq!(exit, Exit::PioOut { port: 0x600, width: 2, data: &[8, 0] });
    assert!(bell.clear());
    guest.vm.disconnect_ioevent(event, bell.as_fd()).unwrap();
    assert!(guest.vm.disconnect_ioevent(event, bell.as_fd()).is_err());
}

/// `sti; again: hlt; jmp again`, then at `CODE + 0x10` the handler: `mov al, 0x99; out 0x80, al; iret`.
fn waiting_guest() -> Vec<u8> {
    let mut code = vec![0xfb, 0xf4, 0xeb, 0xfd];
    code.resize(0x10, 0x90);
    code.extend([0xb0, 0x99, 0xe6, 0x80, 0xcf]);
    code
}

const HANDLER: u16 = CODE as u16 + 0x10;

#[test]
fn a_message_interrupts_a_halted_guest() {
    let Some(mut guest) = guest(&waiting_guest()) else { return };
    accept_interrupts(&mut guest, 0x40, HANDLER);
    guest.vm.signal_msi(message(0x40)).unwrap();
    let exit = guest.vcpu.run().unwrap();
    assert_eq!(exit, Exit::PioOut { port: 0x80, width: 1, data: &[0x99] });
}

#[test]
fn an_eventfd_that_rings_is_an_interrupt() {
    let Some(mut guest) = guest(&waiting_guest()) else { return };
    accept_interrupts(&mut guest, 0x41, HANDLER);
    let gsi = guest.vm.allocate_gsi().unwrap();
    assert!(gsi >= Gsi(24));
    let call = Doorbell::new().unwrap();
    guest.vm.set_routes(&[(gsi, Some(message(0x41)))]).unwrap();
    guest.vm.connect_irqfd(call.as_fd(), gsi).unwrap();
    call.ring();
    let exit = guest.vcpu.run().unwrap();
    assert_eq!(exit, Exit::PioOut { port: 0x80, width: 1, data: &[0x99] });
    guest.vm.disconnect_irqfd(call.as_fd(), gsi).unwrap();
    call.ring();
    assert!(call.clear(), "a disconnected eventfd keeps its signals");
}

#[test]
fn an_eventfd_that_rang_before_is_an_interrupt_when_connected() {
    let Some(mut guest) = guest(&waiting_guest()) else { return };
    accept_interrupts(&mut guest, 0x42, HANDLER);
    let gsi = guest.vm.allocate_gsi().unwrap();
    let call = Doorbell::new().unwrap();
    call.ring();
    guest.vm.set_routes(&[(gsi, Some(message(0x42)))]).unwrap();
    guest.vm.connect_irqfd(call.as_fd(), gsi).unwrap();
    let exit = guest.vcpu.run().unwrap();
    assert_eq!(exit, Exit::PioOut { port: 0x80, width: 1, data: &[0x99] });
}

#[test]
fn a_message_that_nobody_accepts_is_no_error() {
    let Some(guest) = guest(&[0xf4]) else { return };
    guest.vm.signal_msi(Msi { address: 0xfee0_f000, data: 0x40 }).unwrap();
    guest.vm.signal_msi(Msi { address: 0, data: 0 }).unwrap();
}

#[test]
fn numbers_are_given_out_once_and_taken_back() {
    let Some(guest) = guest(&[0xf4]) else { return };
    let (a, b) = (guest.vm.allocate_gsi().unwrap(), guest.vm.allocate_gsi().unwrap());
    assert_ne!(a, b);
    guest.vm.release_gsi(a);
    assert_eq!(guest.vm.allocate_gsi().unwrap(), a);
}

#[test]
fn a_kick_ends_a_run_whether_it_comes_before_or_during() {
    // jmp to itself
    let Some(mut guest) = guest(&[0xeb, 0xfe]) else { return };
    let kick = guest.vcpu.kick_handle();
    kick.kick();
    assert_eq!(guest.vcpu.run().unwrap(), Exit::Interrupted);
    let (started, has_started) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        started.send(()).unwrap();
        guest.vcpu.run().unwrap() == Exit::Interrupted
    });
    has_started.recv().unwrap();
    // Before, while or after it enters the guest: each must end the run.
    std::thread::sleep(Duration::from_millis(20));
    kick.kick();
    assert!(thread.join().unwrap());
}

#[test]
fn one_kick_does_not_end_two_runs() {
    // out 0x80, al twice
    let Some(mut guest) = guest(&[0xe6, 0x80, 0xe6, 0x81]) else { return };
    guest.vcpu.kick_handle().kick();
    assert_eq!(guest.vcpu.run().unwrap(), Exit::Interrupted);
    assert!(matches!(guest.vcpu.run().unwrap(), Exit::PioOut { port: 0x80, .. }));
    guest.vcpu.kick_handle().kick();
    guest.vcpu.kick_handle().kick();
    assert_eq!(guest.vcpu.run().unwrap(), Exit::Interrupted);
    assert!(matches!(guest.vcpu.run().unwrap(), Exit::PioOut { port: 0x81, .. }));
}

#[test]
fn the_state_of_power_on_can_be_put_back() {
    // inc bx; out 0x80, al; jmp back
    let Some(mut guest) = guest(&[0x43, 0xe6, 0x80, 0xeb, 0xfb]) else { return };
    let before = guest.vcpu.state().unwrap();
    for _ in 0..3 {
        assert!(matches!(guest.vcpu.run().unwrap(), Exit::PioOut { port: 0x80, .. }));
    }
    let after = guest.vcpu.state().unwrap();
    assert_eq!(after.regs.rbx, before.regs.rbx + 3);
    guest.vcpu.set_state(&before).unwrap();
    let restored = guest.vcpu.state().unwrap();
    assert_eq!(restored.regs, before.regs);
    assert_eq!(restored.sregs, before.sregs);
    assert!(matches!(guest.vcpu.run().unwrap(), Exit::PioOut { port: 0x80, .. }));
    assert_eq!(guest.vcpu.state().unwrap().regs.rbx, before.regs.rbx + 1);
}

#[test]
fn a_level_triggered_interrupt_reports_its_end() {
    // Handler: write 0 to the APIC's EOI register through a flat ds, out 0x80, iret.
    let mut code = vec![0xfb, 0xf4, 0xeb, 0xfd];
    code.resize(0x10, 0x90);
    // mov ebx, 0xfee000b0; xor eax, eax; mov [ebx], eax; out 0x80, al; iret
    code.extend([
        0x66, 0xbb, 0xb0, 0x00, 0xe0, 0xfe, 0x66, 0x31, 0xc0, 0x67, 0x66, 0x89, 0x03, 0xe6, 0x80,
        0xcf,
    ]);
    let Some(mut guest) = guest(&code) else { return };
    accept_interrupts(&mut guest, 0x43, HANDLER);
    let mut state = guest.vcpu.state().unwrap();
    state.sregs.ds.limit = u32::MAX;
    state.sregs.ds.g = 1;
    guest.vcpu.set_state(&state).unwrap();
    let level = Msi { address: 0xfee0_0000, data: 1 << 15 | 0x43 };
    guest.vm.set_routes(&[(Gsi(9), Some(level))]).unwrap();
    guest.vm.signal_msi(level).unwrap();
    // A KVM that emulates the guest may go on for some instructions before it reports the end.
    let mut exits = Vec::new();
    for _ in 0..2 {
        exits.push(format!("{:?}", guest.vcpu.run().unwrap()));
    }
    assert!(exits.contains(&format!("{:?}", Exit::Eoi(0x43))), "{exits:?}");
}

#[test]
fn something_else_given_as_dev_kvm_is_refused() {
    let device = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    let Err(error) = Kvm::from_fd(device.into()) else { panic!("/dev/null is no KVM") };
    assert!(error.to_string().contains("does not answer like KVM"), "{error}");
}

/// mov di, 0x500; inc word [di]; inc ax; out 0x80, al; jmp to the second.
const COUNTER: [u8; 10] = [0xbf, 0x00, 0x05, 0xff, 0x05, 0x40, 0xe6, 0x80, 0xeb, 0xf9];

fn stop(guest: &mut Guest) -> (DebugStop, u64) {
    let stop = match guest.vcpu.run().unwrap() {
        Exit::Debug(stop) => stop,
        other => panic!("{other:?}"),
    };
    (stop, guest.vcpu.state().unwrap().regs.rip)
}

#[test]
fn a_debugger_steps_from_instruction_to_instruction() {
    let Some(mut guest) = guest(&COUNTER) else { return };
    let steps = GuestDebug { steps: true, ..GuestDebug::default() };
    guest.vcpu.set_guest_debug(&steps).unwrap();
    for behind in [3, 5, 6] {
        assert_eq!(stop(&mut guest), (DebugStop::Step, CODE + behind));
    }
    if is_interpreted() {
        return;
    }
    // The write leaves first; the step is told of behind it.
    assert!(matches!(guest.vcpu.run().unwrap(), Exit::PioOut { port: 0x80, .. }));
    assert_eq!(stop(&mut guest), (DebugStop::Step, CODE + 8));
    assert_eq!(stop(&mut guest), (DebugStop::Step, CODE + 3));
    guest.vcpu.set_guest_debug(&GuestDebug::default()).unwrap();
    assert!(matches!(guest.vcpu.run().unwrap(), Exit::PioOut { port: 0x80, data: &[2], .. }));
}

/// KVM without a processor behind it interprets instructions, and then knows no watches and no step over
/// a port write (its source says so).
fn is_interpreted() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let interpreted = !flags.split_whitespace().any(|flag| matches!(flag, "vmx" | "svm"));
    if interpreted {
        eprintln!("skipped: this KVM interprets its guests");
    }
    interpreted
}

#[test]
fn a_debugger_has_four_breakpoints_and_the_guest_its_own() {
    let Some(mut guest) = guest(&COUNTER) else { return };
    assert_eq!(guest.vm.breakpoint_limit(), Some(4));
    let breaks = |code: &[u64]| GuestDebug { code: code.to_vec(), ..GuestDebug::default() };
    let four: Vec<u64> = [5, 0x100, 0x200, 0x300].map(|at| CODE + at).to_vec();
    guest.vcpu.set_guest_debug(&breaks(&four)).unwrap();
    assert_eq!(stop(&mut guest), (DebugStop::Code, CODE + 5));
    let five = guest.vcpu.set_guest_debug(&breaks(&[&four[..], &[1]].concat())).unwrap_err();
    assert!(matches!(five, EngineError::Breakpoints { limit: 4, wanted: 5 }), "{five}");
    let mut state = guest.vcpu.state().unwrap();
    assert_eq!(state.debug.dr7 & 0xff, 0, "the guest has none");
    (state.regs.rax, state.regs.rip) = (0x41, CODE + 6);
    guest.vcpu.set_registers(&state).unwrap();
    assert!(matches!(guest.vcpu.run().unwrap(), Exit::PioOut { port: 0x80, data: &[0x41], .. }));
    assert_eq!(stop(&mut guest), (DebugStop::Code, CODE + 5));
}

#[test]
fn a_debugger_watches_a_word() {
    let Some(mut guest) = guest(&COUNTER).filter(|_| !is_interpreted()) else { return };
    let watch = Watch { address: 0x500, len: 2, reads: false };
    let debug = GuestDebug { data: vec![watch], ..GuestDebug::default() };
    guest.vcpu.set_guest_debug(&debug).unwrap();
    assert_eq!(stop(&mut guest), (DebugStop::Data(0x500), CODE + 5));
}
