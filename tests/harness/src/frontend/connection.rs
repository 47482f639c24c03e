//! Connecting, and what frontend and backend tell each other first.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use vhost::VhostBackend;
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag};
use vhost::vhost_user::{Frontend as Wire, VhostUserFrontend, VhostUserProtocolFeatures};

use super::error::{FrontendError, Named};
use super::options::{Options, Sharing};

/// VHOST_USER_F_PROTOCOL_FEATURES.
pub(super) const PROTOCOL_FEATURES: u64 = 1 << 30;
/// VIRTIO_F_VERSION_1.
pub(super) const VERSION_1: u64 = 1 << 32;
/// Bytes of `struct virtio_blk_config` up to write-zeroes, which every backend has.
pub(super) const CONFIG: usize = 60;

/// A connection after its handshake.
pub(super) struct Connection {
    pub wire: Wire,
    pub stream: UnixStream,
    pub protocol: VhostUserProtocolFeatures,
    /// Memory slots were added.
    pub has_slots: bool,
}

/// Connects to a path where somebody is about to listen.
pub(super) fn dial(path: &Path, timeout: Duration) -> Result<UnixStream, FrontendError> {
    let end = Instant::now() + timeout;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(FrontendError::Connect { path: path.to_owned(), error }),
        }
    }
}

/// The questions of a handshake; also returns the features that are offered.
pub(super) fn shake_hands(
    stream: UnixStream,
    options: &Options,
) -> Result<(Connection, u64), FrontendError> {
    let mut wire = Wire::from_stream(stream.try_clone()?, options.queues.into());
    wire.set_owner().named("SET_OWNER")?;
    let offered = wire.get_features().named("GET_FEATURES")?;
    for (bit, name) in [(PROTOCOL_FEATURES, "protocol features"), (VERSION_1, "VERSION_1")] {
        if offered & bit == 0 {
            return Err(FrontendError::Lacks(format!("does not offer {name}")));
        }
    }
    let mut protocol = VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::CONFIG
        | VhostUserProtocolFeatures::LOG_SHMFD
        | VhostUserProtocolFeatures::REPLY_ACK;
    if options.inflight {
        protocol |= VhostUserProtocolFeatures::INFLIGHT_SHMFD;
    }
    if options.sharing == Sharing::Slots {
        protocol |= VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS;
    }
    protocol &= wire.get_protocol_features().named("GET_PROTOCOL_FEATURES")?;
    wire.set_protocol_features(protocol).named("SET_PROTOCOL_FEATURES")?;
    if protocol.contains(VhostUserProtocolFeatures::REPLY_ACK) {
        wire.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    }
    if protocol.contains(VhostUserProtocolFeatures::MQ) {
        let queues = wire.get_queue_num().named("GET_QUEUE_NUM")?;
        if queues < u64::from(options.queues) {
            return Err(FrontendError::Lacks(format!("has only {queues} queues")));
        }
    }
    Ok((Connection { wire, stream, protocol, has_slots: false }, offered))
}

/// The device's configuration space.
pub(super) fn read_config(connection: &Connection) -> Result<[u8; CONFIG], FrontendError> {
    let mut wire = connection.wire.clone();
    let flags = VhostUserConfigFlags::empty();
    let (_, bytes) = wire.get_config(0, CONFIG as u32, flags, &[0; CONFIG]).named("GET_CONFIG")?;
    bytes
        .try_into()
        .map_err(|_| FrontendError::Lacks("answered GET_CONFIG with another length".into()))
}
