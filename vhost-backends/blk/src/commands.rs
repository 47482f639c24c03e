//! Plan and commands of the supervisor.

use std::os::fd::OwnedFd;

use bulkhead_backend_kit::{Identity, InflightTable, Instruction, Role, TableError};
use bulkhead_block_client::{BlockClient, Link};
use bulkhead_protocol::device::{BlkCommand, BlkPlan, QueuePlan};
use bulkhead_ring::{AttachError, Client, GeometryError, RingGeometry};
use bulkhead_sys::eventfd::Doorbell;

use crate::disk::Disk;
use crate::queue::BlkQueue;

/// What a queue is told.
#[derive(Debug)]
pub enum Order {
    /// Block-layer was replaced.
    Ring {
        /// Its ring.
        client: Box<BlockClient>,
        /// It died by a fault of its own.
        own_fault: bool,
    },
}

/// Why a plan cannot come to life. The supervisor is to blame, or the kernel.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It lacks descriptors.
    #[error("the plan came with {0} descriptors")]
    Descriptors(usize),
    /// Its rings.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// Its rings.
    #[error(transparent)]
    Ring(#[from] AttachError),
    /// Its in-flight table.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// A plan come to life.
#[derive(Debug)]
pub struct Live {
    /// What the guest sees.
    pub identity: Identity,
    /// The in-flight table.
    pub table: InflightTable,
    /// One for each queue.
    pub queues: Vec<BlkQueue>,
    /// How commands are understood.
    pub commands: Commands,
}

impl Live {
    /// Maps what the plan brought: the in-flight table, then ring, submission doorbell and completion
    /// doorbell of each queue.
    pub fn open(plan: &BlkPlan, fds: Vec<OwnedFd>) -> Result<Self, PlanError> {
        let lacking = PlanError::Descriptors(fds.len());
        let mut fds = fds.into_iter();
        let Some(table) = fds.next() else { return Err(lacking) };
        let table = InflightTable::map(plan.queues, table)?;
        let geometry = RingGeometry::new(plan.ring.entries, plan.ring.arena)?;
        let disk = Disk::new(plan.disk, &plan.serial);
        let mut queues = Vec::new();
        for queue in 0..plan.queues.queues {
            let (Some(ring), Some(submit), Some(complete)) = (fds.next(), fds.next(), fds.next())
            else {
                return Err(lacking);
            };
            let client = Client::attach(ring, geometry, plan.incarnation)?;
            let (submit, complete) = (Doorbell::from_fd(submit), Doorbell::from_fd(complete));
            let link = Link::new(client, geometry, submit, complete);
            let cpu = plan.cpus.get(usize::from(queue)).copied();
            queues.push(BlkQueue::new(disk.clone(), link, plan.queues.queue_size, cpu));
        }
        let identity = disk.identity(plan.queues);
        Ok(Self {
            identity,
            table,
            queues,
            commands: Commands { geometry, disk, plan: plan.queues },
        })
    }
}

/// Understands the supervisor.
#[derive(Debug)]
pub struct Commands {
    geometry: RingGeometry,
    disk: Disk,
    plan: QueuePlan,
}

impl Role for Commands {
    type Command = BlkCommand;
    type Device = BlkQueue;

    fn understand(
        &mut self,
        command: BlkCommand,
        mut fds: Vec<OwnedFd>,
    ) -> Result<Vec<Instruction<Order>>, String> {
        match command {
            BlkCommand::Plan(_) => Err("a second plan".into()),
            BlkCommand::Connection => {
                let socket = fds.pop().ok_or("a connection without its socket")?;
                Ok(vec![Instruction::Connect(socket)])
            }
            BlkCommand::Resized { size } => {
                self.disk.grow(size);
                Ok(vec![Instruction::Config(self.disk.identity(self.plan).config)])
            }
            BlkCommand::RingReplaced { incarnation, own_fault, .. } => {
                let rings = fds.into_iter().enumerate();
                rings.map(|(queue, fd)| self.ring(queue, fd, incarnation, own_fault)).collect()
            }
        }
    }
}

impl Commands {
    fn ring(
        &self,
        queue: usize,
        fd: OwnedFd,
        incarnation: u64,
        own_fault: bool,
    ) -> Result<Instruction<Order>, String> {
        let client = Client::attach(fd, self.geometry, incarnation);
        let client = Box::new(client.map_err(|error| error.to_string())?);
        Ok(Instruction::Order(queue, Order::Ring { client, own_fault }))
    }
}
