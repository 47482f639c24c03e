//! Doorbells and calls: eventfds between guest and devices, without an exit.

use std::os::fd::AsFd;

use bulkhead_hypervisor::{DataMatch, IoAddress, IoEvent, Msi};
use bulkhead_sys::eventfd::Doorbell;
use iced_x86::code_asm::*;

use crate::stage::*;

#[test]
fn a_write_to_a_doorbell_rings_and_does_not_exit() {
    let code = assemble(64, CODE, |code| {
        code.mov(ebx, 0xd000_0000u32)?;
        code.mov(word_ptr(rbx + 4), 3)?;
        code.out(0x70u32, al)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    guest.put_word(TABLES + 0x1000 + 3 * 8, 0x21_0007);
    guest.put_word(0x21_0000 + 0x80 * 8, 0xd000_0087);
    let (kick, other, port) =
        (Doorbell::new().unwrap(), Doorbell::new().unwrap(), Doorbell::new().unwrap());
    let at = IoAddress::Mmio(0xd000_0004);
    guest.vm.connect_ioevent(IoEvent::mmio(0xd000_0004), kick.as_fd()).unwrap();
    let four = IoEvent { address: at, data: DataMatch::U16(4) };
    guest.vm.connect_ioevent(four, other.as_fd()).unwrap();
    let by_port = IoEvent { address: IoAddress::Pio(0x70), data: DataMatch::Any };
    guest.vm.connect_ioevent(by_port, port.as_fd()).unwrap();
    assert_eq!(guest.words(), (vec![], End::Done));
    assert!(kick.is_rung() && port.is_rung() && !other.is_rung());
}

#[test]
fn a_call_wakes_a_halted_guest_by_its_route() {
    let code = assemble(64, CODE, |code| {
        code.sti()?;
        code.hlt()?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    let mut state = guest.vcpu.state().unwrap();
    (state.lapic.regs[0xf0], state.lapic.regs[0xf1]) = (-1, 1);
    guest.vcpu.set_state(&state).unwrap();
    let handler = assemble(64, 0x9000, |code| {
        code.mov(eax, 0x61u32)?;
        say(code)?;
        code.iretq()
    });
    guest.put(0x9000, &handler);
    guest.gate(0x61, 0x9000, 0);
    let call = Doorbell::new().unwrap();
    let gsi = guest.vm.allocate_gsi().unwrap();
    let message = Msi { address: 0xfee0_0000, data: 0x61 };
    guest.vm.set_routes(&[(gsi, Some(message))]).unwrap();
    guest.vm.connect_irqfd(call.as_fd(), gsi).unwrap();
    call.ring();
    assert_eq!(guest.words(), (vec![0x61], End::Done));
    guest.vm.disconnect_irqfd(call.as_fd(), gsi).unwrap();
    call.ring();
    assert!(call.is_rung(), "a signal after the disconnection stays");
}
