//! Control groups: one folder for each child beneath each of the instance's folders.
//!
//! The supervisor makes the instance's folders and passes them by descriptor; the launcher makes a
//! *cell* in each, sets the class's limits, and puts the child in before its exec. Both versions of
//! the interface: in version 1 each controller has a hierarchy, in version 2 there is one for all.
//!
//! The layer is conditional: a user to whom nothing was delegated has no folder, and that is reported
//! rather than refused.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::beneath;
use crate::budget::Budget;
use crate::layer::LayerState;

/// Microseconds in which a share of CPU time is measured: the kernel's own default.
const PERIOD: u64 = 100_000;

/// One of the instance's folders.
#[derive(Debug)]
pub struct Hierarchy {
    /// Version of the interface, 1 or 2.
    pub version: u8,
    /// Controllers it has.
    pub controllers: Vec<String>,
    /// The folder.
    pub folder: OwnedFd,
}

/// A file of a control group and what is written to it.
type Setting = (&'static str, String);

impl Hierarchy {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }

    /// What `budget` asks of the controllers that are here.
    fn settings(&self, budget: &Budget) -> Vec<Setting> {
        let wanted = WANTS.iter().filter(|want| self.has(want.controller));
        wanted.filter_map(|want| (want.settings)(budget, self.version)).flatten().collect()
    }

    fn make(&self, name: &str, settings: &[Setting]) -> io::Result<()> {
        mkdirat(&self.folder, name, Mode::from_bits_truncate(0o755))?;
        let written = settings.iter().try_for_each(|(file, value)| {
            beneath::write(self.folder.as_fd(), &format!("{name}/{file}"), value)
        });
        written.inspect_err(|_| self.remove(name))
    }

    fn remove(&self, name: &str) {
        // What resists is removed with the instance's folder.
        let _ = unlinkat(&self.folder, name, UnlinkatFlags::RemoveDir);
    }
}

/// What a budget asks of one controller; `None`: nothing.
struct Want {
    controller: &'static str,
    settings: fn(&Budget, u8) -> Option<Vec<Setting>>,
}

const WANTS: [Want; 3] = [
    Want { controller: "pids", settings: tasks },
    Want { controller: "memory", settings: memory },
    Want { controller: "cpu", settings: cpu },
];

fn tasks(budget: &Budget, _version: u8) -> Option<Vec<Setting>> {
    Some(vec![("pids.max", budget.pids?.to_string())])
}

fn memory(budget: &Budget, version: u8) -> Option<Vec<Setting>> {
    let file = if version == 1 { "memory.limit_in_bytes" } else { "memory.max" };
    Some(vec![(file, budget.memory?.to_string())])
}

fn cpu(budget: &Budget, version: u8) -> Option<Vec<Setting>> {
    let quota = u64::from(budget.cpu_percent?) * PERIOD / 100;
    Some(match version {
        1 => {
            vec![("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", quota.to_string())]
        }
        _ => vec![("cpu.max", format!("{quota} {PERIOD}"))],
    })
}

/// A child's folders.
#[derive(Debug, Default)]
pub struct Cell {
    name: String,
    /// Indices of the hierarchies in which it has one.
    held: Vec<usize>,
}

impl Cell {
    /// Makes the folder `name` where the budget has a limit to set, and says what became of the
    /// layer. What was made has to be removed, whatever the state.
    pub fn make(hierarchies: &[Hierarchy], name: &str, budget: &Budget) -> (Self, LayerState) {
        let mut cell = Self { name: name.to_owned(), held: Vec::new() };
        let mut lacking = lacking(hierarchies, budget);
        for (index, hierarchy) in hierarchies.iter().enumerate() {
            let settings = hierarchy.settings(budget);
            if settings.is_empty() {
                continue;
            }
            match hierarchy.make(name, &settings) {
                Ok(()) => cell.held.push(index),
                Err(error) => lacking.push(format!("{}: {error}", hierarchy.controllers.join(","))),
            }
        }
        let state = match lacking.as_slice() {
            [] => LayerState::Enforced,
            lacking => LayerState::NotApplicable(lacking.join("; ")),
        };
        (cell, state)
    }

    /// Puts process `pid` in.
    pub fn join(&self, hierarchies: &[Hierarchy], pid: i32) -> io::Result<()> {
        self.folders(hierarchies).try_for_each(|hierarchy| {
            let path = format!("{}/cgroup.procs", self.name);
            beneath::write(hierarchy.folder.as_fd(), &path, &pid.to_string())
        })
    }

    /// Removes the folders of a child that was reaped.
    pub fn remove(&self, hierarchies: &[Hierarchy]) {
        self.folders(hierarchies).for_each(|hierarchy| hierarchy.remove(&self.name));
    }

    fn folders<'a>(&'a self, all: &'a [Hierarchy]) -> impl Iterator<Item = &'a Hierarchy> {
        self.held.iter().filter_map(|index| all.get(*index))
    }
}

/// Controllers that the budget needs and no hierarchy has.
fn lacking(hierarchies: &[Hierarchy], budget: &Budget) -> Vec<String> {
    if hierarchies.is_empty() {
        return vec!["no control group was delegated to this user".to_owned()];
    }
    let wanted = WANTS.iter().filter(|want| (want.settings)(budget, 1).is_some());
    let lost = wanted.filter(|want| !hierarchies.iter().any(|h| h.has(want.controller)));
    lost.map(|want| format!("no folder in a hierarchy with {}", want.controller)).collect()
}
