//! From plan to live: the image, the graph, and each export's lanes.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhead_protocol::block::{BlockEvent, BlockPlan, ExportPlan, NamedLayer};
use bulkhead_sys::eventfd::Doorbell;

use super::{Executor, ExecutorError, Export};
use crate::disk::Reference;
use crate::graph::Graph;
use crate::lane::ToLane;
use crate::node::{Levels, Opening, Refused};

/// What a plan must not.
const LACKS: &str = "a plan that lacks descriptors";

impl Executor {
    /// Opens the graph and attaches its exports. An image that cannot be served is an event, not an
    /// error: the process is well.
    pub(super) fn open(&mut self, plan: BlockPlan, fds: Vec<OwnedFd>) -> Result<(), ExecutorError> {
        if self.graph.is_some() {
            return Err(ExecutorError::Command("a second plan"));
        }
        let queues: usize = plan.exports.iter().map(|export| usize::from(export.queues)).sum();
        if queues > self.lanes.len() {
            return Err(ExecutorError::Command("a plan with more queues than its first argument"));
        }
        let mut fds = fds.into_iter();
        let group = match plan.filters.group {
            Some(_) => {
                let object = fds.next().ok_or(ExecutorError::Command(LACKS))?;
                Some(Levels::shared(&object)?)
            }
            None => None,
        };
        let nodes = crate::node::nodes(&plan.filters, group);
        let (pool, mailbox) = (Arc::clone(&self.pool), Arc::clone(&self.mailbox));
        let on_server = |layer: &NamedLayer| {
            plan.remotes.iter().find(|remote| remote.layer == layer.layer).cloned()
        };
        let remotes: Vec<_> = plan.layers.iter().map(on_server).collect();
        let (mut reference, verify) = (None, plan.verify);
        let opened = Graph::open(pool, mailbox, nodes, async |desk| {
            let mut opening = Opening { fds: &mut fds, desk, remotes };
            let file = if verify { Some(opening.descriptor()?) } else { None };
            let opened = opening.open(&plan.node).await?;
            if let Some(file) = file {
                reference = Some(opening.reference(file, &opened)?);
            }
            Ok(opened)
        });
        let graph = match opened {
            Ok(graph) => graph,
            Err(Refused::Descriptor) => {
                return Err(ExecutorError::Command(LACKS));
            }
            Err(Refused::Away(layer, reason)) => {
                self.events.push(BlockEvent::Away { layer, reason });
                return Ok(());
            }
            Err(error) => {
                let reason = error.to_string();
                self.events.push(BlockEvent::Refused { reason });
                return Ok(());
            }
        };
        if let Some(reference) = reference {
            graph.disk().set_reference(Reference::new(reference));
        }
        self.events.push(BlockEvent::Opened(graph.info()));
        self.size.store(graph.info().size, Ordering::Relaxed);
        self.graph = Some(graph);
        self.record.begin(plan.layers);
        self.events.push(BlockEvent::Headers(self.layer_reports()));
        self.set_policy(plan.on_error);
        // Before there are lanes: the disk is drained by then, and stays so until the supervisor has its word.
        for order in plan.orders {
            self.go_back(order.call, order.snapshot);
        }
        for export in plan.exports {
            self.open_export(export, &mut fds)?;
        }
        for job in plan.jobs {
            let its = fds.by_ref().take(job.fd_count()).collect();
            self.start_job(None, job, its);
        }
        Ok(())
    }

    /// Places the export's lanes and attaches its first rings.
    pub(super) fn open_export(
        &mut self,
        plan: ExportPlan,
        fds: &mut impl Iterator<Item = OwnedFd>,
    ) -> Result<(), ExecutorError> {
        let lanes = self.free_lanes(usize::from(plan.queues));
        let lanes = lanes.ok_or(ExecutorError::Command("an export that has no lanes left"))?;
        let mut next = || fds.next().ok_or(ExecutorError::Command(LACKS));
        let mut rings = Vec::new();
        for (queue, lane) in self.lanes[lanes.clone()].iter().enumerate() {
            rings.push(next()?);
            lane.post(ToLane::Place {
                submit: Doorbell::from_fd(next()?),
                complete: Doorbell::from_fd(next()?),
                cpu: plan.cpus.get(queue).copied(),
            });
        }
        let (number, queues, incarnation) = (plan.export, plan.queues, plan.incarnation);
        self.exports.push(Export::new(plan, lanes)?);
        self.settle_leases();
        self.attach(number, queues, incarnation, rings)
    }
}
