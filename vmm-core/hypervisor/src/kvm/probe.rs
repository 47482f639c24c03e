//! How fast a KVM executes: a guest of one loop, and the same loop without a guest.
//!
//! Called by the `bulkhead` command, which is not sealed, before there is a machine: some KVMs have no
//! virtualisation behind them and interpret their guests, at a few million instructions a second.
//!
//! Law: it ends. The guest runs on a thread of its own, in turns that are kicked; a KVM that does not
//! come back from one is left alone with that thread, and called silent.

use std::arch::asm;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use bulkhead_memory::{Grant, GuestRange, RamLayout, Rights};

use super::{Kvm, kick};
use crate::engine::{Hypervisor, Kick, Vcpu, Vm};
use crate::error::EngineError;
use crate::exit::Exit;

/// How often a run is interrupted to look at the clock.
const TURN: Duration = Duration::from_millis(3);

/// CPU time after which the speed is known well enough.
const ENOUGH: Duration = Duration::from_millis(3);

/// How long all of it may take on a busy machine.
const PATIENCE: Duration = Duration::from_millis(500);

/// Rounds of the loop: half a millisecond of an ordinary CPU.
const ROUNDS: u32 = 1 << 19;

/// Instructions of one round.
const ROUND: u64 = 5;

/// Where the guest's code lies.
const CODE: u64 = 0x8000;

/// Instructions a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speeds {
    /// In a guest of this KVM.
    pub guest: u64,
    /// Without one.
    pub native: u64,
}

/// Why there is no speed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// This KVM cannot make or run such a guest.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It does not come back from the guest.
    #[error("it does not come back from a guest of one loop")]
    Silent,
    /// It reports something that the guest does not do.
    #[error("a guest of one loop ended by {0}")]
    Strange(String),
}

/// Measures the KVM behind `dev_kvm`.
pub fn speeds(dev_kvm: OwnedFd) -> Result<Speeds, ProbeError> {
    let (tell, told) = channel();
    kick::install().map_err(EngineError::host("prepare for kicks"))?;
    let work = move || {
        let speed = guest(dev_kvm, &tell);
        let _ = tell.send(Said::Speed(speed));
    };
    let thread = std::thread::Builder::new().name("probe".to_owned()).spawn(work);
    thread.map_err(EngineError::host("make a thread"))?;
    let guest = listen(&told)?;
    Ok(Speeds { guest, native: native() })
}

/// What the thread says: first how to kick it.
enum Said {
    Begins(Arc<dyn Kick>),
    Speed(Result<u64, ProbeError>),
}

/// Kicks the guest again and again until its speed is known.
fn listen(told: &Receiver<Said>) -> Result<u64, ProbeError> {
    let until = Instant::now() + PATIENCE;
    let mut kick = None;
    while Instant::now() < until {
        match told.recv_timeout(TURN) {
            Ok(Said::Begins(handle)) => kick = Some(handle),
            Ok(Said::Speed(speed)) => return speed,
            Err(RecvTimeoutError::Timeout) => kick.iter().for_each(|kick| kick.kick()),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Err(ProbeError::Silent)
}

/// Runs the loop in a guest until enough is known.
fn guest(dev_kvm: OwnedFd, tell: &Sender<Said>) -> Result<u64, ProbeError> {
    let Guest { mut vcpu, _vm } = make(dev_kvm)?;
    let _ = tell.send(Said::Begins(vcpu.kick_handle()));
    let before = cpu_time();
    loop {
        let is_over = match vcpu.run()? {
            Exit::PioOut { .. } => true,
            Exit::Interrupted => false,
            other => return Err(ProbeError::Strange(format!("{other:?}"))),
        };
        let spent = cpu_time().saturating_sub(before);
        if is_over || spent >= ENOUGH {
            let left = vcpu.state()?.regs.rcx;
            let rounds = u64::from(ROUNDS).saturating_sub(left);
            return Ok(a_second(rounds, spent));
        }
    }
}

/// The guest. Its machine keeps its memory.
struct Guest {
    vcpu: Box<dyn Vcpu>,
    _vm: Arc<dyn Vm>,
}

/// A guest in real mode before the loop.
fn make(dev_kvm: OwnedFd) -> Result<Guest, EngineError> {
    let layout = RamLayout::new(2 << 20).map_err(|_| EngineError::Bug("a layout of 2 MiB"))?;
    let ram = bulkhead_sys::memfd::create_sealed("probe", layout.total());
    let ram = ram.map_err(EngineError::host("make memory"))?;
    let memory = Grant::whole(&layout, Rights::ReadWrite).map(&ram);
    let memory = memory.map_err(|_| EngineError::Bug("memory of its own"))?;
    let code = code();
    let place = memory.check(GuestRange::new(CODE, code.len() as u64));
    let copied = place.is_ok_and(|place| place.copy_out(&code).is_ok());
    if !copied {
        return Err(EngineError::Bug("code within 2 MiB"));
    }
    let vm = Kvm::from_fd(dev_kvm)?.create_vm(&memory)?;
    let mut vcpu = vm.create_vcpu(0, 1)?;
    let mut state = vcpu.state()?;
    (state.sregs.cs.base, state.sregs.cs.selector) = (0, 0);
    (state.regs.rip, state.regs.rflags) = (CODE, 2);
    state.regs.rcx = ROUNDS.into();
    vcpu.set_state(&state)?;
    Ok(Guest { vcpu, _vm: vm })
}

/// The loop of [`native`] in real mode, and a port write behind it.
fn code() -> Vec<u8> {
    let round = [
        &[0x66, 0x01, 0xc8][..],   // add eax, ecx
        &[0x66, 0x31, 0xc3],       // xor ebx, eax
        &[0x66, 0xc1, 0xc3, 0x03], // rol ebx, 3
        &[0x66, 0x49],             // dec ecx
        &[0x75, 0xf2],             // jnz, to the first
    ];
    [round.concat(), vec![0xe6, 0x80]].concat() // out 0x80, al
}

/// The loop without a guest.
fn native() -> u64 {
    let before = cpu_time();
    // SAFETY: changes the named registers and flags, and nothing else.
    unsafe {
        asm!(
            "2:",
            "add {a:e}, {c:e}",
            "xor {b:e}, {a:e}",
            "rol {b:e}, 3",
            "dec {c:e}",
            "jnz 2b",
            a = inout(reg) 0 => _,
            b = inout(reg) 0 => _,
            c = inout(reg) ROUNDS => _,
            options(nomem, nostack)
        );
    }
    a_second(ROUNDS.into(), cpu_time().saturating_sub(before))
}

fn a_second(rounds: u64, spent: Duration) -> u64 {
    let nanoseconds = u128::max(spent.as_nanos(), 1);
    let instructions = u128::from(rounds) * u128::from(ROUND);
    u64::try_from(instructions * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX)
}

/// What this thread has had of its CPU, its guest's share included. What other programs take on a busy
/// machine is not in it.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which lives here.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_instructions_by_time() {
        assert_eq!(a_second(200, Duration::from_micros(1)), 1_000_000_000);
        assert_eq!(a_second(0, Duration::ZERO), 0);
    }

    #[test]
    fn a_kvm_that_does_not_come_back_is_silent() {
        let (_tell, told) = channel();
        assert!(matches!(listen(&told), Err(ProbeError::Silent)));
    }

    #[test]
    fn what_is_no_kvm_has_no_speed() {
        let zero = std::fs::File::open("/dev/zero").unwrap();
        let error = speeds(zero.into()).unwrap_err();
        assert!(matches!(error, ProbeError::Engine(EngineError::NotKvm { .. })), "{error}");
    }

    #[test]
    fn this_hosts_kvm_has_one() {
        let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
        let Ok(device) = device else {
            eprintln!("skipped: no usable /dev/kvm");
            return;
        };
        let speeds = speeds(device.into()).unwrap();
        assert!(speeds.guest > 0 && speeds.native > 0, "{speeds:?}");
    }
}
