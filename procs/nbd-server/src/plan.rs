//! From plan to live: the ring mapped, the certificates read, the listening socket at hand.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bulkhead_block_client::Link;
use bulkhead_protocol::nbd::NbdPlan;
use bulkhead_ring::{AttachError, Client, GeometryError, RingGeometry};
use bulkhead_sys::eventfd::Doorbell;
use rustls::ServerConfig;

use crate::export::Export;
use crate::owner::BlockLink;
use bulkhead_stream::tls::{self, TlsError};

/// Why a plan cannot come to life.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It lacks descriptors. The supervisor is to blame.
    #[error("the plan lacks a descriptor")]
    Descriptors,
    /// Its ring. The supervisor is to blame.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// Its ring.
    #[error(transparent)]
    Ring(#[from] AttachError),
    /// Its certificates. The user is told.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A plan come to life.
#[derive(Debug)]
pub struct Live {
    /// What clients are told.
    pub export: Export,
    /// The way to block-layer.
    pub link: BlockLink,
    /// Where clients knock.
    pub listener: OwnedFd,
    /// What they must use.
    pub tls: Option<Arc<ServerConfig>>,
}

impl Live {
    /// Takes what the plan brought: listening socket, ring, submission doorbell, completion doorbell.
    pub fn open(plan: NbdPlan, fds: Vec<OwnedFd>) -> Result<Self, PlanError> {
        let fds = <[OwnedFd; 4]>::try_from(fds).map_err(|_| PlanError::Descriptors)?;
        let [listener, ring, submit, complete] = fds;
        let tls = plan.tls.as_ref().map(tls::server_config).transpose()?;
        let geometry = RingGeometry::new(plan.ring.entries, plan.ring.arena)?;
        let client = Client::attach(ring, geometry, plan.incarnation)?;
        let (submit, complete) = (Doorbell::from_fd(submit), Doorbell::from_fd(complete));
        let link = Link::new(client, geometry, submit, complete);
        let NbdPlan { disk, name, description, bitmap, .. } = plan;
        Ok(Self { export: Export { name, description, bitmap, disk }, link, listener, tls })
    }
}
