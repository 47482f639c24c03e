//! The supervisor's plan: numbers checked, descriptors in their places.

use std::env;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bulkhead_channel::Channel;
use bulkhead_hypervisor::remote::{Remote, VcpuEnds};
use bulkhead_memory::{Grant, GuestMemory, RamLayout, Rights, WrittenPages};
use bulkhead_protocol::core::{CoreCommand, DevicePlan, EngineKind};
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::memfd::verify_sealed;
use bulkhead_vhost_frontend::{SharedRam, WrittenLog};

/// How long the supervisor may take to attest this process and to send the plan.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// vCPUs that a machine may have.
const MOST_CPUS: u8 = 16;

/// Functions beside the host bridge.
const MOST_DEVICES: usize = bulkhead_machine::pci::host::SLOTS as usize - 1;

/// The files that are booted: open, read by position.
pub struct Images {
    /// The kernel.
    pub kernel: File,
    /// The initial RAM disk.
    pub initrd: Option<File>,
}

/// What executes the guest.
pub enum Engine {
    /// `/dev/kvm`.
    Kvm(OwnedFd),
    /// A process in software.
    Soft(Remote),
}

/// The machine to be made.
pub struct Plan {
    /// vCPUs.
    pub cpus: u8,
    /// Where RAM lies.
    pub layout: RamLayout,
    /// RAM, mapped.
    pub memory: GuestMemory,
    /// The same, as device processes get it.
    pub ram: SharedRam,
    /// Kernel command line.
    pub append: String,
    /// The port of a debug-exit device.
    pub debug_exit: Option<u16>,
    /// The vCPUs run only when a debugger lets them.
    pub waits_for_debugger: bool,
    /// Devices in slot order.
    pub devices: Vec<DevicePlan>,
    /// What executes the guest.
    pub engine: Engine,
    /// The stream of the first serial port.
    pub serial: OwnedFd,
    /// What to boot first.
    pub images: Images,
}

/// The number of vCPUs: this process's only argument. It is needed before the seal, because threads
/// are made before it.
pub fn cpus_of_argument() -> anyhow::Result<u8> {
    let argument = env::args().nth(1).context("the number of vCPUs is missing")?;
    parse_cpus(&argument)
}

fn parse_cpus(argument: &str) -> anyhow::Result<u8> {
    match argument.parse() {
        Ok(cpus @ 1..=MOST_CPUS) => Ok(cpus),
        _ => bail!("{argument:?} is no number of vCPUs from 1 to {MOST_CPUS}"),
    }
}

impl Plan {
    /// Checks the first command and maps RAM. `threads` were made for vCPUs.
    pub fn check(command: CoreCommand, fds: Vec<OwnedFd>, threads: u8) -> anyhow::Result<Self> {
        let CoreCommand::Plan(plan) = command else { bail!("the first command is no plan") };
        ensure!(
            plan.cpus == u32::from(threads),
            "a plan for {} vCPUs, {threads} threads",
            plan.cpus
        );
        ensure!(plan.devices.len() <= MOST_DEVICES, "a plan with {} devices", plan.devices.len());
        for device in &plan.devices {
            check_device(device)?;
        }
        let mut fds = fds.into_iter();
        let mut next = |what| fds.next().with_context(|| format!("the plan comes without {what}"));
        let (engine, written) = match plan.engine {
            EngineKind::Kvm => (Engine::Kvm(next("/dev/kvm")?), None),
            EngineKind::Soft => {
                let (remote, written) = soft(threads, &mut next)?;
                (Engine::Soft(remote), Some(written))
            }
        };
        let (ram, serial) = (next("RAM")?, next("a serial stream")?);
        let kernel = next("a kernel")?.into();
        let initrd = if plan.initrd { Some(next("an initrd")?.into()) } else { None };
        let layout = RamLayout::new(plan.memory)?;
        verify_sealed(ram.as_fd(), layout.total()).context("guest RAM")?;
        let memory = Grant::whole(&layout, Rights::ReadWrite).map(&ram)?;
        let written = written.map(|fd| written_log(fd, &layout)).transpose()?;
        Ok(Self {
            cpus: threads,
            layout,
            ram: SharedRam { fd: Arc::new(ram), memory: memory.clone(), written },
            memory,
            append: plan.append,
            debug_exit: plan.debug_exit,
            waits_for_debugger: plan.waits_for_debugger,
            devices: plan.devices,
            engine,
            serial,
            images: Images { kernel, initrd },
        })
    }
}

/// Our ends of a software engine.
fn soft(
    vcpus: u8,
    next: &mut impl FnMut(&'static str) -> anyhow::Result<OwnedFd>,
) -> anyhow::Result<(Remote, OwnedFd)> {
    let control = Channel::from_fd(next("an engine")?);
    let written = next("a log of written pages")?;
    let ends = (0..vcpus).map(|_| {
        let turns = Channel::from_fd(next("a vCPU's channel")?);
        Ok(VcpuEnds { turns, kick: Doorbell::from_fd(next("a vCPU's kick")?) })
    });
    Ok((Remote::new(control, ends.collect::<anyhow::Result<_>>()?), written))
}

/// Where device processes are to mark what they write: the engine keeps translations of guest code.
fn written_log(fd: OwnedFd, layout: &RamLayout) -> anyhow::Result<WrittenLog> {
    let len = WrittenPages::len_of(layout);
    verify_sealed(fd.as_fd(), len).context("log of written pages")?;
    Ok(WrittenLog { fd: Arc::new(fd), len })
}

fn check_device(device: &DevicePlan) -> anyhow::Result<()> {
    let DevicePlan { id, queues, queue_size, .. } = device;
    ensure!((1..=16).contains(queues), "device {id} with {queues} queues");
    let sizes = 2..=1024;
    ensure!(
        queue_size.is_power_of_two() && sizes.contains(queue_size),
        "device {id} with queues of {queue_size}"
    );
    Ok(())
}

impl Images {
    /// The files of a `Boot` command.
    pub fn take(fds: Vec<OwnedFd>) -> anyhow::Result<Self> {
        let mut fds = fds.into_iter().map(File::from);
        let kernel = fds.next().context("boot without a kernel")?;
        Ok(Self { kernel, initrd: fds.next() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_protocol::core::{BackendKind, CorePlan, DeviceKind};

    fn plan(change: impl FnOnce(&mut CorePlan)) -> anyhow::Result<Plan> {
        let mut plan = CorePlan {
            cpus: 2,
            memory: 4 << 20,
            append: "quiet".into(),
            engine: EngineKind::Kvm,
            debug_exit: None,
            waits_for_debugger: false,
            initrd: false,
            devices: Vec::new(),
        };
        change(&mut plan);
        let object = |name| bulkhead_sys::memfd::create_sealed(name, 4 << 20).unwrap();
        let count = 4 + usize::from(plan.initrd);
        let fds = (0..count).map(|_| object("any")).collect();
        Plan::check(CoreCommand::Plan(Box::new(plan)), fds, 2)
    }

    fn device(queues: u16, queue_size: u16) -> DevicePlan {
        let (kind, backend) = (DeviceKind::Blk, BackendKind::Own);
        DevicePlan { id: "d0".into(), kind, backend, queues, queue_size }
    }

    #[test]
    fn a_sound_plan_is_taken() {
        let taken = plan(|plan| plan.devices.push(device(2, 256))).unwrap();
        assert_eq!((taken.cpus, taken.layout.total()), (2, 4 << 20));
        assert!(taken.images.initrd.is_none());
        assert!(plan(|plan| plan.initrd = true).unwrap().images.initrd.is_some());
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        assert!(plan(|plan| plan.cpus = 3).is_err());
        assert!(plan(|plan| plan.memory = 0).is_err());
        assert!(plan(|plan| plan.memory = 8 << 20).is_err(), "the object is shorter");
        for (queues, size) in [(0, 256), (17, 256), (1, 0), (1, 1), (1, 3), (1, 2048)] {
            assert!(
                plan(|plan| plan.devices.push(device(queues, size))).is_err(),
                "{queues} {size}"
            );
        }
        assert!(plan(|plan| plan.devices = vec![device(1, 256); 32]).is_err());
    }

    #[test]
    fn the_number_of_vcpus_is_a_number() {
        assert_eq!(parse_cpus("16").unwrap(), 16);
        for wrong in ["", "0", "17", "-1", "256", "1x"] {
            assert!(parse_cpus(wrong).is_err(), "{wrong:?}");
        }
    }
}
