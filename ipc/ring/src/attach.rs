//! Making a ring's memory object, and mapping it on either side.
//!
//! [`create`] is called by the supervisor, once per pair and incarnation; `attach` by the two ends,
//! after their seal, with the numbers of their plan.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bulkhead_sys::mapping::{OutOfMapping, Rights, SharedMapping};
use bulkhead_sys::memfd::{SealError, create_sealed, verify_sealed};

use crate::geometry::RingGeometry;
use crate::header::{Header, HeaderFault};

/// Why a ring could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The descriptor is no sealed memory object of the planned length.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It is another ring than planned.
    #[error(transparent)]
    Header(#[from] HeaderFault),
    /// The kernel refused.
    #[error("the ring cannot be mapped: {0}")]
    Host(#[from] io::Error),
    /// The geometry places a part outside the object: a bug.
    #[error("the ring's layout is wrong: {0}")]
    Bug(#[from] OutOfMapping),
}

/// Makes the sealed memory object of a new pair of rings: all indices 0, an empty arena, the header
/// written. Duplicates of the descriptor go to the two ends; the maker keeps none longer than it
/// needs to restart one of them.
pub fn create(geometry: RingGeometry, incarnation: u64) -> io::Result<OwnedFd> {
    let fd = create_sealed("bulkhead-ring", geometry.object_len())?;
    let header = Header::new(geometry, incarnation).encode();
    let mapping = SharedMapping::map(&fd, header.len(), Rights::ReadWrite)?;
    mapping.copy_out(0, &header).map_err(io::Error::other)?;
    Ok(fd)
}

/// Maps a ring after comparing it with the plan.
pub(crate) fn attach(
    fd: impl AsFd,
    geometry: RingGeometry,
    incarnation: u64,
) -> Result<Arc<SharedMapping>, AttachError> {
    let len = geometry.object_len();
    verify_sealed(fd.as_fd(), len)?;
    let mapping = SharedMapping::map(fd, len as usize, Rights::ReadWrite)?;
    let mut header = [0; size_of::<Header>()];
    mapping.copy_in(0, &mut header)?;
    Header::decode(header).expect(geometry, incarnation)?;
    Ok(Arc::new(mapping))
}
