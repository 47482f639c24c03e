//! A vhost-user-blk backend as others write one in Rust: `bulkhead-interop-disk SOCKET IMAGE`.
//!
//! Made of rust-vmm's `vhost-user-backend` daemon and `virtio-queue`, a stranger to both of our ends. It
//! serves one queue of one connection and then ends. Absent, as in the daemon: an in-flight table.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, RwLock};

use anyhow::{Context, Result};
use vhost::vhost_user::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_queue::QueueOwnedT;
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// Virtio 1.2: VIRTIO_F_VERSION_1, VIRTIO_F_EVENT_IDX, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_FLUSH.
const FEATURES: u64 = 1 << 32 | 1 << 29 | 1 << 12 | 1 << 9;

/// `struct virtio_blk_config` (virtio 1.2, 5.2.4) up to `num_queues`, which is at its end.
const CONFIG: usize = 36;

const SECTOR: u64 = 512;

struct Disk {
    image: File,
    memory: Option<Memory>,
}

impl Disk {
    /// Serves one request: its header and data, and the data and status it answers.
    fn serve(&self, request: &mut impl Read, room: usize) -> io::Result<Vec<u8>> {
        let mut header = [0; 16];
        request.read_exact(&mut header)?;
        let [kind, _, sector @ ..] = header.as_chunks::<4>().0 else { unreachable!() };
        let at =
            sector.as_flattened().iter().rev().fold(0u64, |at, byte| at << 8 | u64::from(*byte));
        let mut answer = Vec::new();
        let done = match u32::from_le_bytes(*kind) {
            0 => {
                answer.resize(room.saturating_sub(1), 0);
                self.image.read_exact_at(&mut answer, at * SECTOR).map(|()| 0)
            }
            1 => {
                let mut data = Vec::new();
                request.read_to_end(&mut data)?;
                self.image.write_all_at(&data, at * SECTOR).map(|()| 0)
            }
            4 => self.image.sync_data().map(|()| 0),
            _ => Ok(2),
        };
        answer.push(done.unwrap_or(1));
        Ok(answer)
    }

    fn drain(&self, vring: &VringRwLock) -> io::Result<()> {
        let Some(memory) = &self.memory else { return Ok(()) };
        let memory = memory.memory();
        let mut state = vring.get_mut();
        let chains: Vec<_> =
            state.get_queue_mut().iter(memory.clone()).map_err(io::Error::other)?.collect();
        for chain in chains {
            let head = chain.head_index();
            let mut request = chain.clone().reader(&*memory).map_err(io::Error::other)?;
            let mut room = chain.writer(&*memory).map_err(io::Error::other)?;
            let answer = self.serve(&mut request, room.available_bytes())?;
            room.write_all(&answer)?;
            state.add_used(head, answer.len() as u32).map_err(io::Error::other)?;
        }
        if state.needs_notification().map_err(io::Error::other)? {
            state.signal_used_queue()?;
        }
        Ok(())
    }
}

impl VhostUserBackendMut for Disk {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        1
    }

    fn max_queue_size(&self) -> usize {
        128
    }

    fn features(&self) -> u64 {
        FEATURES | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
    }

    fn set_event_idx(&mut self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let sectors = self.image.metadata().map_or(0, |file| file.len() / SECTOR);
        let mut config = sectors.to_le_bytes().to_vec();
        config.resize(CONFIG - 2, 0);
        config.extend(1u16.to_le_bytes());
        config.resize((offset + size) as usize, 0);
        config.split_off(offset as usize)
    }

    fn update_memory(&mut self, memory: Memory) -> io::Result<()> {
        self.memory = Some(memory);
        Ok(())
    }

    fn handle_event(
        &mut self,
        queue: u16,
        _events: EventSet,
        vrings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        vrings.get(usize::from(queue)).map_or(Ok(()), |vring| self.drain(vring))
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let socket = arguments.next().context("no socket was named")?;
    let path = arguments.next().context("no image was named")?;
    let image = File::options().read(true).write(true).open(&path).context(path)?;
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let disk = Arc::new(RwLock::new(Disk { image, memory: None }));
    let mut daemon = VhostUserDaemon::new("disk".into(), disk, memory)
        .map_err(|error| anyhow::anyhow!("the daemon: {error}"))?;
    daemon.serve(socket).map_err(|error| anyhow::anyhow!("serving: {error}"))
}
