//! The child's own way into its jail, from the launcher's "go" to the exec.
//!
//! The order is not free: ids before mounts (a user namespace's root has no id until its map is
//! written), the bounding set before the capabilities that may empty it are dropped, the parent's
//! death signal after the last change of ids (which resets it), limits last.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;

use bulkhead_sys::{birth, capability, cpu, process};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, close, setgroups, setresgid, setresuid};

use crate::birth::Orders;
use crate::layer::Layer;
use crate::record::{Record, Step};
use crate::root;

/// What the launcher says when the maps are written and the control group joined.
pub(crate) const GO: u8 = b'g';

/// Namespaces that a process can take after its clone.
const UNSHARED: [(Layer, CloneFlags); 5] = [
    (Layer::MountNamespace, CloneFlags::CLONE_NEWNS),
    (Layer::NetNamespace, CloneFlags::CLONE_NEWNET),
    (Layer::IpcNamespace, CloneFlags::CLONE_NEWIPC),
    (Layer::UtsNamespace, CloneFlags::CLONE_NEWUTS),
    (Layer::CgroupNamespace, CloneFlags::CLONE_NEWCGROUP),
];

/// A child on its way.
pub(crate) struct Child<'a> {
    pub orders: &'a Orders<'a>,
    /// It is root of a user namespace of its own.
    pub own_users: bool,
    /// The launcher is root.
    pub by_root: bool,
    pub report: File,
}

/// A layer that is missing and was not allowed to be; the launcher knows.
pub(crate) struct Refused;

impl Child<'_> {
    /// The whole way. Comes back only if something failed; the process then ends. `launchers` are
    /// the launcher's ends of both pipes, of which this process has a copy.
    pub fn live(&mut self, mut go: File, launchers: [RawFd; 2]) {
        for end in launchers {
            let _ = close(end);
        }
        let mut word = [0];
        // An end of file: the launcher has given up, or is dead.
        if go.read(&mut word).is_ok_and(|len| len == 1) && word[0] == GO {
            drop(go);
            let _ = self.enter();
        }
    }

    fn enter(&mut self) -> Result<(), Refused> {
        if self.own_users {
            self.try_layer(Layer::UserNamespace, Step::TakeIds, take_ids(0))?;
        }
        self.namespaces()?;
        self.privileges()?;
        self.last_steps()
    }

    fn namespaces(&mut self) -> Result<(), Refused> {
        let mut own_mounts = true;
        for (layer, flag) in UNSHARED {
            let held = self.try_layer(layer, Step::Unshare, unshare(flag))?;
            own_mounts &= held || layer != Layer::MountNamespace;
        }
        if own_mounts && let Err((step, errno)) = root::empty() {
            self.try_layer(Layer::MountNamespace, step, Err(errno))?;
        }
        Ok(())
    }

    fn privileges(&mut self) -> Result<(), Refused> {
        let bounds = capability::empty_bounds().map_err(errno);
        self.try_layer(Layer::Capabilities, Step::Bounds, bounds)?;
        if !self.own_users && self.by_root {
            let ids = setgroups(&[]).and_then(|()| take_ids(self.orders.own_uid));
            self.try_layer(Layer::OwnUid, Step::TakeIds, ids)?;
        }
        let dropped = capability::drop_all().map_err(errno);
        self.try_layer(Layer::Capabilities, Step::Drop, dropped)?;
        let forbidden = process::forbid_new_privileges().map_err(errno);
        self.try_layer(Layer::NoNewPrivileges, Step::NoNewPrivileges, forbidden)?;
        Ok(())
    }

    fn last_steps(&mut self) -> Result<(), Refused> {
        if !self.orders.cpus.is_empty() {
            let placed = cpu::restrict(0, self.orders.cpus);
            self.must(Step::Affinity, placed)?;
        }
        self.must(Step::DieWithParent, process::die_with_parent())?;
        let arranged = birth::arrange(self.orders.standard, self.orders.binary);
        let binary = self.must(Step::Descriptors, arranged)?;
        for (resource, value) in self.orders.budget.limits {
            self.try_layer(Layer::Limits, Step::Limit, lower(*resource, *value))?;
        }
        self.tell(Record { layer: None, step: Step::Exec, fatal: false, errno: 0 });
        let error = birth::become_program(binary, &self.orders.arguments);
        self.must(Step::Exec, Err(error))
    }

    /// Tells of a layer that could not be had. `Ok(false)`: it may be missing.
    fn try_layer(
        &mut self,
        layer: Layer,
        step: Step,
        result: Result<(), Errno>,
    ) -> Result<bool, Refused> {
        let Err(errno) = result else {
            return Ok(true);
        };
        let fatal = !self.orders.weaker.contains(&layer);
        self.tell(Record { layer: Some(layer), step, fatal, errno: errno as i32 });
        if fatal { Err(Refused) } else { Ok(false) }
    }

    fn must<T>(&mut self, step: Step, result: io::Result<T>) -> Result<T, Refused> {
        result.map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(0);
            self.tell(Record { layer: None, step, fatal: true, errno });
            Refused
        })
    }

    fn tell(&mut self, record: Record) {
        let _ = self.report.write_all(&record.encode());
    }
}

fn take_ids(id: u32) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

/// Lowers a limit, never raises it: that would need a capability, and is not what a limit is for.
fn lower(resource: Resource, value: u64) -> Result<(), Errno> {
    let (_, hard) = getrlimit(resource)?;
    let value = value.min(hard);
    setrlimit(resource, value, value)
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}
