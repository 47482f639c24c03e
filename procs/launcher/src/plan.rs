//! The launcher's plan: what it may start, and where control groups are made.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use bulkhead_jail::{Hierarchy, Layer};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::launch::{self, CgroupFolder};

/// Checked and with its descriptors.
#[derive(Debug, Default)]
pub struct Plan {
    /// Programs by class.
    pub binaries: BTreeMap<ProcessClass, OwnedFd>,
    /// Folders of the instance.
    pub hierarchies: Vec<Hierarchy>,
    /// Layers that may be missing.
    pub weaker: Vec<Layer>,
}

impl Plan {
    /// Joins the message with its descriptors, whose number the channel has checked.
    pub fn new(
        binaries: Vec<ProcessClass>,
        cgroups: Vec<CgroupFolder>,
        weaker: &[launch::Layer],
        fds: Vec<OwnedFd>,
    ) -> Self {
        let mut fds = fds.into_iter();
        let binaries = binaries.into_iter().zip(fds.by_ref()).collect();
        let hierarchies = cgroups.into_iter().zip(fds).map(|(plan, folder)| Hierarchy {
            version: plan.version,
            controllers: plan.controllers,
            folder,
        });
        Self {
            binaries,
            hierarchies: hierarchies.collect(),
            weaker: weaker.iter().filter_map(|layer| Layer::from_name(layer.name())).collect(),
        }
    }
}
