//! A frontend's life: start, stop, and what a monitor does when its backend is gone.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_memory::WrittenPages;
use bulkhead_sys::memfd::create_sealed;
use vhost::vhost_user::message::VhostUserInflight;
use vhost::vhost_user::{VhostUserFrontend, VhostUserProtocolFeatures};
use vhost::{VhostBackend, VhostUserDirtyLogRegion, VringConfigData};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::connection::{
    CONFIG, Connection, PROTOCOL_FEATURES, VERSION_1, dial, read_config, shake_hands,
};
use super::error::{FrontendError, Named};
use super::memory::{GUEST_BASE, Memory, Place};
use super::options::{Options, Sharing};
use super::queue::Queue;
use super::request::SECTOR;
use super::ring::Ring;
use super::watchdog::Watchdog;

/// VIRTIO_RING_F_INDIRECT_DESC and VIRTIO_RING_F_EVENT_IDX.
const INDIRECT: u64 = 1 << 28;
const EVENT_IDX: u64 = 1 << 29;
/// VHOST_F_LOG_ALL.
const LOG_ALL: u64 = 1 << 26;
/// Bytes of a log that has bits for all of [`Memory`].
const LOG: u64 = 4096;
/// VIRTIO_BLK_F_* that are acknowledged when offered: SIZE_MAX, SEG_MAX, RO, BLK_SIZE, FLUSH,
/// TOPOLOGY, CONFIG_WCE, MQ, DISCARD, WRITE_ZEROES.
const BLK: u64 =
    1 << 1 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14;

/// A frontend. Its queues are separate and may live in other threads.
pub struct Frontend {
    path: PathBuf,
    options: Options,
    memory: Memory,
    places: Vec<Place>,
    bells: Vec<(EventFd, EventFd)>,
    offered: u64,
    config: [u8; CONFIG],
    inflight: Option<(VhostUserInflight, File)>,
    connection: Connection,
}

impl Frontend {
    /// Connects to a listening socket and starts `queues` queues of `depth` requests.
    pub fn connect(
        path: &Path,
        queues: u16,
        depth: u16,
    ) -> Result<(Self, Vec<Queue>), FrontendError> {
        Self::connect_with(path, Options::new(queues, depth))
    }

    /// Connects with chosen options.
    pub fn connect_with(
        path: &Path,
        options: Options,
    ) -> Result<(Self, Vec<Queue>), FrontendError> {
        let stream = dial(path, options.timeout)?;
        Self::over(stream, path, options)
    }

    /// Starts over a connected stream. `path` is where a reconnection goes.
    pub fn over(
        stream: UnixStream,
        path: &Path,
        options: Options,
    ) -> Result<(Self, Vec<Queue>), FrontendError> {
        let (memory, places) = Memory::new(&options)?;
        let bells = places.iter().map(|_| bells()).collect::<Result<Vec<_>, _>>()?;
        let watchdog = Watchdog::watch(&stream, options.timeout)?;
        let (connection, offered) = shake_hands(stream, &options)?;
        let config = read_config(&connection)?;
        let mut frontend = Self {
            path: path.to_owned(),
            options,
            memory,
            places,
            bells,
            offered,
            config,
            inflight: None,
            connection,
        };
        frontend.start(&vec![0; frontend.places.len()])?;
        drop(watchdog);
        let queues = frontend.queues()?;
        Ok((frontend, queues))
    }

    fn queues(&self) -> Result<Vec<Queue>, FrontendError> {
        let event_idx = self.features() & EVENT_IDX != 0;
        let size = self.options.queue_size;
        let each = self.places.iter().zip(&self.bells).map(|(place, (kick, call))| {
            let ring = Ring::new(self.memory.mapping.clone(), *place, size, event_idx);
            Ok(Queue::new(ring, &self.options, kick.try_clone()?, call.try_clone()?)?)
        });
        each.collect()
    }

    /// The features in force.
    pub fn features(&self) -> u64 {
        let mut wanted = BLK | VERSION_1 | PROTOCOL_FEATURES;
        if self.options.event_idx {
            wanted |= EVENT_IDX;
        }
        if self.options.indirect {
            wanted |= INDIRECT;
        }
        self.offered & wanted & !self.options.refuse
    }

    /// The features the backend offers.
    pub fn offered(&self) -> u64 {
        self.offered
    }

    /// The device's configuration space.
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// Size of the disk in bytes.
    pub fn capacity(&self) -> u64 {
        let mut sectors = [0; 8];
        sectors.copy_from_slice(&self.config[..8]);
        u64::from_le_bytes(sectors).saturating_mul(SECTOR)
    }

    /// Whether the backend keeps an in-flight table.
    pub fn has_inflight(&self) -> bool {
        self.inflight.is_some()
    }

    /// Whether the backend has hung up.
    pub fn is_hung_up(&self) -> bool {
        let gone = EventSet::READ_HANG_UP;
        let look = || {
            let look = Epoll::new()?;
            let event = EpollEvent::new(gone, 0);
            look.ctl(ControlOperation::Add, self.connection.stream.as_raw_fd(), event)?;
            look.wait(0, &mut [EpollEvent::default()])
        };
        look().map_or(true, |events| events > 0)
    }

    /// Hangs up in the middle of everything, as a monitor that is killed.
    pub fn hang_up(&self) -> Result<(), FrontendError> {
        Ok(self.connection.stream.shutdown(std::net::Shutdown::Both)?)
    }

    /// Connects again after a hang-up, as a monitor does: same rings, same features, the in-flight
    /// table handed over, each queue from its used index. Retries until the time-out.
    pub fn reconnect(&mut self) -> Result<(), FrontendError> {
        let end = Instant::now() + self.options.timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match dial(&self.path, left).and_then(|stream| self.reconnect_over(stream)) {
                Err(FrontendError::Message { .. }) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                other => return other,
            }
        }
    }

    /// As [`Frontend::reconnect`], over a stream that is connected already.
    pub fn reconnect_over(&mut self, stream: UnixStream) -> Result<(), FrontendError> {
        let _watchdog = Watchdog::watch(&stream, self.options.timeout)?;
        let (connection, after) = shake_hands(stream, &self.options)?;
        if after != self.offered {
            return Err(FrontendError::FeaturesChanged { before: self.offered, after });
        }
        self.connection = connection;
        let bases = self.used_indices()?;
        self.start(&bases)?;
        // Kicks that the dead backend took, and calls that it did not send any more.
        for (kick, call) in &self.bells {
            kick.write(1)?;
            call.write(1)?;
        }
        Ok(())
    }

    fn used_indices(&self) -> Result<Vec<u16>, FrontendError> {
        let ring = |place: &Place| {
            Ring::new(self.memory.mapping.clone(), *place, self.options.queue_size, false)
                .used_index()
        };
        let indices = self.places.iter().map(ring).collect::<Result<_, _>>();
        indices.map_err(|error| FrontendError::Lacks(error.to_string()))
    }

    /// Stops all queues; returns where each would go on.
    pub fn stop(&mut self) -> Result<Vec<u16>, FrontendError> {
        let _watchdog = Watchdog::watch(&self.connection.stream, self.options.timeout)?;
        let wire = &self.connection.wire;
        let base =
            |index| wire.get_vring_base(index).named("GET_VRING_BASE").map(|base| base as u16);
        (0..self.places.len()).map(base).collect()
    }

    /// Starts stopped queues again.
    pub fn resume(&mut self, bases: &[u16]) -> Result<(), FrontendError> {
        let _watchdog = Watchdog::watch(&self.connection.stream, self.options.timeout)?;
        self.start(bases)
    }

    /// Has the backend log what it writes from now on, while its queues run, as QEMU does when it begins to
    /// migrate. The log's pages are those of [`Frontend::guest_base`] and above.
    pub fn log_writes(&mut self) -> Result<WrittenPages, FrontendError> {
        let _watchdog = Watchdog::watch(&self.connection.stream, self.options.timeout)?;
        let fd = create_sealed("written", LOG)?;
        let region =
            VhostUserDirtyLogRegion { mmap_size: LOG, mmap_offset: 0, mmap_handle: fd.as_raw_fd() };
        let wire = &self.connection.wire;
        wire.set_log_base(0, Some(region)).named("SET_LOG_BASE")?;
        wire.set_features(self.features() | LOG_ALL).named("SET_FEATURES")?;
        Ok(WrittenPages::map(&fd, 0, LOG)?)
    }

    /// Ends what [`Frontend::log_writes`] began.
    pub fn stop_logging(&mut self) -> Result<(), FrontendError> {
        let _watchdog = Watchdog::watch(&self.connection.stream, self.options.timeout)?;
        self.connection.wire.set_features(self.features()).named("SET_FEATURES")
    }

    /// Guest-physical address of the shared memory: for each queue its descriptors, its available and its
    /// used ring begin a page, in this order, then come the slots, each with a page of its own in front.
    pub fn guest_base(&self) -> u64 {
        GUEST_BASE
    }

    fn start(&mut self, bases: &[u16]) -> Result<(), FrontendError> {
        self.connection.wire.set_features(self.features()).named("SET_FEATURES")?;
        self.share_inflight()?;
        self.share_memory()?;
        let wire = &mut self.connection.wire;
        for (index, (place, base)) in self.places.iter().zip(bases).enumerate() {
            let (kick, call) = &self.bells[index];
            let size = self.options.queue_size;
            let rings = VringConfigData {
                queue_max_size: size,
                queue_size: size,
                flags: 0,
                desc_table_addr: place.user(place.descriptors),
                used_ring_addr: place.user(place.used),
                avail_ring_addr: place.user(place.available),
                log_addr: None,
            };
            wire.set_vring_num(index, size).named("SET_VRING_NUM")?;
            wire.set_vring_base(index, *base).named("SET_VRING_BASE")?;
            wire.set_vring_addr(index, &rings).named("SET_VRING_ADDR")?;
            wire.set_vring_call(index, call).named("SET_VRING_CALL")?;
            wire.set_vring_kick(index, kick).named("SET_VRING_KICK")?;
        }
        for index in 0..self.places.len() {
            wire.set_vring_enable(index, true).named("SET_VRING_ENABLE")?;
        }
        Ok(())
    }

    /// The memory table; slots are added once a connection, since they stay.
    fn share_memory(&mut self) -> Result<(), FrontendError> {
        let connection = &mut self.connection;
        if self.options.sharing != Sharing::Slots {
            connection.wire.set_mem_table(&self.memory.table()).named("SET_MEM_TABLE")?;
        } else if !std::mem::replace(&mut connection.has_slots, true) {
            let slots = connection.wire.get_max_mem_slots().named("GET_MAX_MEM_SLOTS")?;
            let table = self.memory.table();
            if slots < table.len() as u64 {
                return Err(FrontendError::Lacks(format!("has only {slots} memory slots")));
            }
            for region in table {
                connection.wire.add_mem_region(&region).named("ADD_MEM_REG")?;
            }
        }
        Ok(())
    }

    /// Asks for an in-flight table once and hands it back at every start, as QEMU does.
    fn share_inflight(&mut self) -> Result<(), FrontendError> {
        if !self.connection.protocol.contains(VhostUserProtocolFeatures::INFLIGHT_SHMFD) {
            return Ok(());
        }
        let wire = &mut self.connection.wire;
        if self.inflight.is_none() {
            let wish = VhostUserInflight::new(0, 0, self.options.queues, self.options.queue_size);
            self.inflight = Some(wire.get_inflight_fd(&wish).named("GET_INFLIGHT_FD")?);
        }
        if let Some((inflight, fd)) = &self.inflight {
            wire.set_inflight_fd(inflight, fd.as_raw_fd()).named("SET_INFLIGHT_FD")?;
        }
        Ok(())
    }
}

fn bells() -> std::io::Result<(EventFd, EventFd)> {
    let flags = libc::EFD_NONBLOCK | libc::EFD_CLOEXEC;
    Ok((EventFd::new(flags)?, EventFd::new(flags)?))
}
