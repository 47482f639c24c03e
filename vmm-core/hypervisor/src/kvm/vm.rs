//! One machine in the kernel: RAM slots, interrupts, doorbells.

use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bulkhead_memory::GuestMemory;
use kvm_bindings::{
    CpuId, KVM_CAP_SPLIT_IRQCHIP, KVM_MAX_CPUID_ENTRIES, KVM_MEM_LOG_DIRTY_PAGES, kvm_enable_cap,
    kvm_msi, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, IoEventAddress, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::EventFd;

use super::routes::Routes;
use super::vcpu::KvmVcpu;
use crate::engine::{Vcpu, Vm};
use crate::error::EngineError;
use crate::interrupt::{Gsi, IOAPIC_PINS, Msi};
use crate::ioevent::{DataMatch, IoAddress, IoEvent};
use crate::x86_64::processor;

/// Three pages and one page that KVM needs on Intel processors that cannot run real mode. They lie
/// where firmware would, below 4 GiB, away from RAM and devices.
const TSS_ADDRESS: usize = 0xfffb_d000;
const IDENTITY_MAP_ADDRESS: u64 = 0xfffb_c000;

/// A machine.
pub(super) struct KvmVm {
    fd: VmFd,
    routes: Mutex<Routes>,
    /// What this host's KVM can show to a guest, before our table is applied.
    cpuid: CpuId,
    /// Model-specific registers of our table that this host's KVM can save; exact after the first vCPU
    /// has tried them.
    msrs: Mutex<Vec<u32>>,
    /// This host's KVM can hold interrupts back while a vCPU is stepped.
    blocks_interrupts: bool,
    /// Keeps the mappings behind the RAM slots.
    memory: GuestMemory,
}

impl KvmVm {
    pub(super) fn new(kvm: &kvm_ioctls::Kvm, memory: &GuestMemory) -> Result<Self, EngineError> {
        let fd = kvm.create_vm().map_err(EngineError::host("create a machine"))?;
        fd.set_tss_address(TSS_ADDRESS).map_err(EngineError::host("place the TSS"))?;
        fd.set_identity_map_address(IDENTITY_MAP_ADDRESS)
            .map_err(EngineError::host("place the identity map"))?;
        let mut split = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, ..Default::default() };
        split.args[0] = u64::from(IOAPIC_PINS);
        fd.enable_cap(&split).map_err(EngineError::host("split the interrupt controller"))?;
        map_ram(&fd, memory, 0)?;
        let limit = u32::try_from(kvm.check_extension_int(Cap::IrqRouting)).unwrap_or(0);
        let routes = Routes::new(limit);
        routes.commit(&fd)?;
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(EngineError::host("name the processor's features"))?;
        let msrs = kvm.get_msr_index_list().map_err(EngineError::host("name its registers"))?;
        let is_there =
            |msr: &u32| msrs.as_slice().contains(msr) || processor::is_unlisted_msr(*msr);
        let msrs = Mutex::new(processor::saved_msrs().filter(is_there).collect());
        let blocks_interrupts = super::debug::blocks_interrupts(kvm);
        let routes = Mutex::new(routes);
        Ok(Self { fd, routes, cpuid, msrs, blocks_interrupts, memory: memory.clone() })
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives each region a slot of its own, in order; again, with other flags.
fn map_ram(fd: &VmFd, memory: &GuestMemory, flags: u32) -> Result<(), EngineError> {
    for (slot, region) in (0..).zip(memory.regions()) {
        let slot = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr: region.ram().guest_addr,
            memory_size: region.ram().len,
            userspace_addr: region.host_addr(),
        };
        // SAFETY: the range is a live mapping of at least `len` bytes that the machine keeps alive
        // (`memory`), and nobody holds references into guest memory.
        unsafe { fd.set_user_memory_region(slot) }.map_err(EngineError::host("map guest RAM"))?;
    }
    Ok(())
}

impl Vm for KvmVm {
    fn create_vcpu(&self, index: u8, count: u8) -> Result<Box<dyn Vcpu>, EngineError> {
        let fd =
            self.fd.create_vcpu(u64::from(index)).map_err(EngineError::host("create a vCPU"))?;
        let cpuid = processor::cpuid(self.cpuid.as_slice(), processor::Place { index, count });
        let cpuid =
            CpuId::from_entries(&cpuid).map_err(|_| EngineError::Bug("too many CPUID leaves"))?;
        fd.set_cpuid2(&cpuid).map_err(EngineError::host("set the processor's features"))?;
        let mut msrs = self.msrs.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Box::new(KvmVcpu::new(fd, &mut msrs, self.blocks_interrupts)?))
    }

    fn signal_msi(&self, msi: Msi) -> Result<(), EngineError> {
        let message = kvm_msi {
            address_lo: msi.address as u32,
            address_hi: (msi.address >> 32) as u32,
            data: msi.data,
            ..Default::default()
        };
        match self.fd.signal_msi(message) {
            Ok(_) => Ok(()),
            // What KVM answers when no local APIC matches the destination.
            Err(error) if error.errno() == libc::EPERM => Ok(()),
            Err(error) => Err(EngineError::host("deliver an interrupt")(error)),
        }
    }

    fn allocate_gsi(&self) -> Result<Gsi, EngineError> {
        self.routes().allocate()
    }

    fn release_gsi(&self, gsi: Gsi) {
        self.routes().release(gsi);
    }

    fn set_routes(&self, changes: &[(Gsi, Option<Msi>)]) -> Result<(), EngineError> {
        self.routes().set(&self.fd, changes)
    }

    fn connect_irqfd(&self, call: BorrowedFd<'_>, gsi: Gsi) -> Result<(), EngineError> {
        let result = self.fd.register_irqfd(&borrow(call), gsi.0);
        result.map_err(EngineError::host("connect an interrupt"))
    }

    fn disconnect_irqfd(&self, call: BorrowedFd<'_>, gsi: Gsi) -> Result<(), EngineError> {
        let result = self.fd.unregister_irqfd(&borrow(call), gsi.0);
        result.map_err(EngineError::host("disconnect an interrupt"))
    }

    fn connect_ioevent(&self, event: IoEvent, kick: BorrowedFd<'_>) -> Result<(), EngineError> {
        let (kick, address) = (borrow(kick), address(event));
        let result = match event.data {
            DataMatch::Any => self.fd.register_ioevent(&kick, &address, NoDatamatch),
            DataMatch::U8(value) => self.fd.register_ioevent(&kick, &address, value),
            DataMatch::U16(value) => self.fd.register_ioevent(&kick, &address, value),
            DataMatch::U32(value) => self.fd.register_ioevent(&kick, &address, value),
            DataMatch::U64(value) => self.fd.register_ioevent(&kick, &address, value),
        };
        result.map_err(EngineError::host("connect a doorbell"))
    }

    fn disconnect_ioevent(&self, event: IoEvent, kick: BorrowedFd<'_>) -> Result<(), EngineError> {
        let (kick, address) = (borrow(kick), address(event));
        let result = match event.data {
            DataMatch::Any => self.fd.unregister_ioevent(&kick, &address, NoDatamatch),
            DataMatch::U8(value) => self.fd.unregister_ioevent(&kick, &address, value),
            DataMatch::U16(value) => self.fd.unregister_ioevent(&kick, &address, value),
            DataMatch::U32(value) => self.fd.unregister_ioevent(&kick, &address, value),
            DataMatch::U64(value) => self.fd.unregister_ioevent(&kick, &address, value),
        };
        result.map_err(EngineError::host("disconnect a doorbell"))
    }

    fn start_dirty_log(&self) -> Result<(), EngineError> {
        map_ram(&self.fd, &self.memory, KVM_MEM_LOG_DIRTY_PAGES)
    }

    fn stop_dirty_log(&self) -> Result<(), EngineError> {
        map_ram(&self.fd, &self.memory, 0)
    }

    fn get_dirty_log(&self, region: usize) -> Result<Vec<u64>, EngineError> {
        let ram = self.memory.regions().nth(region).map(|region| region.ram());
        let ram = ram.ok_or(EngineError::Bug("a region that a machine has not"))?;
        let log = self.fd.get_dirty_log(region as u32, ram.len as usize);
        log.map_err(EngineError::host("tell which pages were written"))
    }

    fn breakpoint_limit(&self) -> Option<usize> {
        Some(super::debug::REGISTERS)
    }
}

fn address(event: IoEvent) -> IoEventAddress {
    match event.address {
        IoAddress::Mmio(address) => IoEventAddress::Mmio(address),
        IoAddress::Pio(port) => IoEventAddress::Pio(u64::from(port)),
    }
}

/// The descriptor in the type that `kvm-ioctls` wants, for one call. KVM itself checks that it is an
/// eventfd.
fn borrow(fd: BorrowedFd<'_>) -> ManuallyDrop<EventFd> {
    // SAFETY: the descriptor is open for the duration of the borrow, which outlives every use here,
    // and `ManuallyDrop` never closes it.
    ManuallyDrop::new(unsafe { EventFd::from_raw_fd(fd.as_raw_fd()) })
}
