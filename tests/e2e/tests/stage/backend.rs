//! A vhost-user backend that contradicts itself: raw messages (vhost-user, "Message specification").

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

/// VIRTIO_F_VERSION_1, VHOST_USER_F_PROTOCOL_FEATURES and VIRTIO_BLK_F_MQ.
const FEATURES: u64 = 1 << 32 | 1 << 30 | 1 << 12;

/// VHOST_USER_PROTOCOL_F_MQ and _CONFIG.
const PROTOCOL_FEATURES: u64 = 1 | 1 << 9;

/// Where `struct virtio_blk_config` (virtio 1.2, 5.2.4) has `num_queues`.
const NUM_QUEUES: usize = 34;

/// What it says about its queues.
#[derive(Debug, Clone, Copy)]
pub struct Lie {
    /// The answer to GET_QUEUE_NUM.
    pub asked: u64,
    /// `num_queues` of the configuration space.
    pub config: u16,
}

impl Lie {
    /// Answers one frontend until it hangs up.
    pub fn tell(self, mut frontend: UnixStream) -> io::Result<()> {
        loop {
            let mut header = [[0; 4]; 3];
            frontend.read_exact(header.as_flattened_mut())?;
            let [request, _, size] = header.map(u32::from_le_bytes);
            let mut body = vec![0; size as usize];
            frontend.read_exact(&mut body)?;
            let answer = match request {
                1 => FEATURES.to_le_bytes().to_vec(),
                15 => PROTOCOL_FEATURES.to_le_bytes().to_vec(),
                17 => self.asked.to_le_bytes().to_vec(),
                24 => self.configure(body),
                _ => continue,
            };
            // Version 1, a reply.
            for word in [request, 5, answer.len() as u32] {
                frontend.write_all(&word.to_le_bytes())?;
            }
            frontend.write_all(&answer)?;
        }
    }

    /// The answer to GET_CONFIG: offset, size, flags, and that part of the space.
    fn configure(self, mut body: Vec<u8>) -> Vec<u8> {
        let space = body.get_mut(12..).and_then(|space| space.get_mut(NUM_QUEUES..NUM_QUEUES + 2));
        space.expect("the whole space is asked for").copy_from_slice(&self.config.to_le_bytes());
        body
    }
}
