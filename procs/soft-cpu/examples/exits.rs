//! What an exit costs when the engine is behind messages: processor time of both sides, for each port
//! read of a guest that does nothing else.
//!
//! `exits [COUNT]`. Both sides are threads here: a switch of processes costs somewhat more.

use bulkhead_channel::Channel;
use bulkhead_hypervisor::remote::{Remote, VcpuEnds};
use bulkhead_hypervisor::{Exit, Hypervisor, Vcpu};
use bulkhead_memory::{Grant, GuestRange, RamLayout, Rights};
use bulkhead_soft_cpu::Soft;
use bulkhead_soft_cpu::serve::{Service, live};
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::poller::Poller;

type Failure = Box<dyn std::error::Error>;

/// Real mode: `again: in al, dx; jmp again`.
const CODE: &[u8] = &[0xec, 0xeb, 0xfd];

fn main() -> Result<(), Failure> {
    let count = std::env::args().nth(1).map_or(Ok(200_000), |count| count.parse())?;
    let layout = RamLayout::new(1 << 20)?;
    let memfd = bulkhead_sys::memfd::create_sealed("ram", layout.total())?;
    let memory = Grant::whole(&layout, Rights::ReadWrite).map(&memfd)?;
    memory.check(GuestRange::new(0x8000, CODE.len() as u64))?.copy_out(CODE)?;
    let (control, its_control) = Channel::pair()?;
    let ((turns, its_turns), kick) = (Channel::pair()?, Doorbell::new()?);
    let its_ends = vec![VcpuEnds { turns: its_turns, kick: kick.try_clone()? }];
    let (service, seats) =
        Service::new(Soft.create_vm(&memory)?, its_control, its_ends, Poller::new()?)?;
    std::thread::spawn(move || service.run(&mut || Ok(true)));
    seats.into_iter().for_each(|seat| drop(std::thread::spawn(move || live(seat))));
    let vm = Remote::new(control, vec![VcpuEnds { turns, kick }]).create_vm(&memory)?;
    let mut vcpu = vm.create_vcpu(0, 1)?;
    let mut state = vcpu.state()?;
    (state.sregs.cs.base, state.sregs.cs.selector, state.regs.rip) = (0, 0, 0x8000);
    vcpu.set_state(&state)?;
    let before = processor_time()?;
    read_ports(&mut *vcpu, count)?;
    let spent = processor_time()? - before;
    println!("{:.2} µs of processor time an exit", spent / f64::from(count) * 1e6);
    Ok(())
}

fn read_ports(vcpu: &mut dyn Vcpu, count: u32) -> Result<(), Failure> {
    for _ in 0..count {
        match vcpu.run()? {
            Exit::PioIn { data, .. } => data.fill(0),
            other => return Err(format!("{other:?}").into()),
        }
    }
    Ok(())
}

/// Seconds that all threads of this process have run.
fn processor_time() -> Result<f64, Failure> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += text.split_whitespace().next().ok_or("no figure")?.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}
