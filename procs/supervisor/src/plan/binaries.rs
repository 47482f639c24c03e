//! The helpers' executables, by descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::{DiskSource, EngineSpec, Spec};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::open::beneath;
use crate::refusal::{io_reason, refuse};

/// What an instance starts.
#[derive(Debug)]
pub struct Binaries {
    launcher: OwnedFd,
    helpers: Vec<(ProcessClass, OwnedFd)>,
}

impl Binaries {
    /// Opens what `spec` needs below `root`.
    pub fn open(root: &OwnedFd, spec: &Spec) -> Result<Self, Refusal> {
        let open = |class: ProcessClass| {
            let name = class.binary();
            beneath(root, &name, OFlag::O_RDONLY, Mode::empty()).map_err(|error| {
                let (reason, _) = io_reason(&error);
                let remedy = "install Bulkhead again: its helpers belong beside the command";
                refuse("helper", name, reason, remedy)
            })
        };
        let classes = needed(spec).into_iter();
        Ok(Self {
            launcher: open(ProcessClass::Launcher)?,
            helpers: classes
                .map(|class| Ok((class, open(class)?)))
                .collect::<Result<_, Refusal>>()?,
        })
    }

    /// The launcher's.
    pub fn launcher(&self) -> BorrowedFd<'_> {
        self.launcher.as_fd()
    }

    /// Classes that the launcher may start, with their executables.
    pub fn helpers(&self) -> impl Iterator<Item = (ProcessClass, BorrowedFd<'_>)> {
        let helpers = self.helpers.iter();
        helpers.map(|(class, fd)| (*class, fd.as_fd()))
    }
}

/// Classes of processes that an instance of `spec` has or may get.
fn needed(spec: &Spec) -> Vec<ProcessClass> {
    let mut classes = vec![ProcessClass::Control];
    let is_ours = |source: &DiskSource| !matches!(source, DiskSource::VhostUser { .. });
    if spec.disks().iter().any(|disk| is_ours(&disk.source)) {
        // Disks may be exported later.
        let exports = [ProcessClass::NbdServer, ProcessClass::VhostBlk];
        classes.push(ProcessClass::BlockLayer);
        classes.extend(exports);
    }
    if let Spec::Vm(vm) = spec {
        classes.extend([ProcessClass::Core, ProcessClass::Sink]);
        if let EngineSpec::Soft(soft) = &vm.engine {
            classes.push(soft.class());
        }
        if vm.gdb.is_some() {
            classes.push(ProcessClass::Gdb);
        }
        if vm.console {
            classes.push(ProcessClass::VhostConsole);
        }
        if vm.rng {
            classes.push(ProcessClass::VhostRng);
        }
    }
    classes
}
