//! The run page after `KVM_RUN`: from the kernel's exit reasons to ours.
//!
//! `kvm-ioctls` decodes it too, but loses the width of a repeated port access and the code of an
//! internal error.

use kvm_bindings::{
    KVM_EXIT_DEBUG, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR,
    KVM_EXIT_IO, KVM_EXIT_IO_IN, KVM_EXIT_IOAPIC_EOI, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN,
    KVM_EXIT_SYSTEM_EVENT, kvm_run,
};

use crate::debug::GuestDebug;
use crate::exit::Exit;

/// Port data lies in the page behind the run page itself (`KVM_PIO_PAGE_OFFSET`).
const PIO_PAGE: usize = 4096;

/// What the run page of a vCPU that was told `debug` says. The union's field is chosen by the exit reason, both the kernel's.
pub(super) fn decode<'a>(run: &'a mut kvm_run, debug: &GuestDebug) -> Exit<'a> {
    match run.exit_reason {
        KVM_EXIT_IO => decode_pio(run),
        KVM_EXIT_MMIO => decode_mmio(run),
        // SAFETY: the exit reason selects this field of the union.
        KVM_EXIT_IOAPIC_EOI => Exit::Eoi(unsafe { run.__bindgen_anon_1.eoi.vector }),
        KVM_EXIT_DEBUG => {
            // SAFETY: as above.
            Exit::Debug(super::debug::stop(&unsafe { run.__bindgen_anon_1.debug.arch }, debug))
        }
        KVM_EXIT_HLT => Exit::Hlt,
        KVM_EXIT_SHUTDOWN => Exit::Shutdown,
        KVM_EXIT_SYSTEM_EVENT => {
            // SAFETY: as above.
            Exit::SystemEvent(unsafe { run.__bindgen_anon_1.system_event.type_ })
        }
        KVM_EXIT_INTR => Exit::Interrupted,
        KVM_EXIT_FAIL_ENTRY => {
            // SAFETY: as above.
            let failure = unsafe { run.__bindgen_anon_1.fail_entry };
            Exit::FailEntry { reason: failure.hardware_entry_failure_reason, cpu: failure.cpu }
        }
        KVM_EXIT_INTERNAL_ERROR => {
            // SAFETY: as above.
            Exit::InternalError { code: unsafe { run.__bindgen_anon_1.internal.suberror } }
        }
        other => Exit::Unexpected(other),
    }
}

fn decode_pio(run: &mut kvm_run) -> Exit<'_> {
    // SAFETY: the caller saw KVM_EXIT_IO.
    let io = unsafe { run.__bindgen_anon_1.io };
    let len = usize::from(io.size) * io.count as usize;
    if io.data_offset as usize != PIO_PAGE || len > PIO_PAGE {
        return Exit::Unexpected(KVM_EXIT_IO);
    }
    let page: *mut u8 = std::ptr::from_mut(run).cast::<u8>().wrapping_add(PIO_PAGE);
    // SAFETY: the mapping has a whole page there (the kernel maps run page, port data and the
    // coalesced ring), `len` is at most a page, and the exclusive borrow of `run` covers the use.
    let data = unsafe { std::slice::from_raw_parts_mut(page, len) };
    match u32::from(io.direction) {
        KVM_EXIT_IO_IN => Exit::PioIn { port: io.port, width: io.size, data },
        _ => Exit::PioOut { port: io.port, width: io.size, data },
    }
}

fn decode_mmio(run: &mut kvm_run) -> Exit<'_> {
    // SAFETY: the caller saw KVM_EXIT_MMIO.
    let mmio = unsafe { &mut run.__bindgen_anon_1.mmio };
    let len = (mmio.len as usize).min(mmio.data.len());
    let data = &mut mmio.data[..len];
    match mmio.is_write {
        0 => Exit::MmioRead { address: mmio.phys_addr, data },
        _ => Exit::MmioWrite { address: mmio.phys_addr, data },
    }
}
