//! What the guest is told about the disk: features and configuration space (5.2.3, 5.2.4).
//!
//! All of it follows from the plan, so a successor tells the same; the size may grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead_backend_kit::Identity;
use bulkhead_protocol::device::{DiskInfo, QueuePlan};
use virtio_bindings::bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ,
    VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
};

/// virtio-blk counts in these, whatever the block size (5.2.4).
pub(crate) const SECTOR: u64 = 512;

/// Bytes of a device id (5.2.6).
pub(crate) const ID: usize = 20;

/// Most sectors that one discard or write-zeroes request is invited to have: 1 GiB. Longer ones are
/// served all the same.
const MOST_ZEROES: u32 = 1 << 21;

/// A disk as its queues need it. Clones share its size.
#[derive(Debug, Clone)]
pub struct Disk {
    /// What the block layer said, but for the size.
    pub info: DiskInfo,
    /// The serial, padded with zeroes.
    pub id: [u8; ID],
    /// Bytes. It may grow, and then the queues know it before the guest does.
    size: Arc<AtomicU64>,
}

impl Disk {
    /// A disk of this plan. A serial longer than 20 bytes is cut.
    pub fn new(info: DiskInfo, serial: &str) -> Self {
        let mut id = [0; ID];
        for (place, byte) in id.iter_mut().zip(serial.bytes()) {
            *place = byte;
        }
        Self { info, id, size: Arc::new(info.size.into()) }
    }

    /// It has grown.
    pub fn grow(&self, size: u64) {
        self.size.fetch_max(size, Ordering::Relaxed);
    }

    fn size(&self) -> u64 {
        // What follows the growth reaches the queues by way of the guest, and so later.
        self.size.load(Ordering::Relaxed)
    }

    /// Whether writes must be on stable storage before they are completed: a driver that knows no
    /// flush takes a completed write for safe (5.2.6.2).
    pub(crate) fn writes_through(&self, features: u64) -> bool {
        self.info.flush && features & (1 << VIRTIO_BLK_F_FLUSH) == 0
    }

    /// Whether a range of bytes is made of whole blocks of the disk.
    pub(crate) fn contains(&self, offset: u64, len: u64) -> bool {
        let block = u64::from(self.info.logical_block).max(SECTOR);
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.size());
        inside && offset.is_multiple_of(block) && len.is_multiple_of(block)
    }

    /// What the driver sees.
    pub fn identity(&self, queues: QueuePlan) -> Identity {
        Identity { features: self.features(queues), config: self.config(queues) }
    }

    fn features(&self, queues: QueuePlan) -> u64 {
        let DiskInfo { read_only, flush, discard, .. } = self.info;
        let always = [VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_TOPOLOGY];
        let sometimes = [
            (VIRTIO_BLK_F_RO, read_only),
            (VIRTIO_BLK_F_FLUSH, flush),
            (VIRTIO_BLK_F_MQ, queues.queues > 1),
            (VIRTIO_BLK_F_DISCARD, discard && !read_only),
            (VIRTIO_BLK_F_WRITE_ZEROES, !read_only),
        ];
        let offered = sometimes.into_iter().filter(|(_, offered)| *offered).map(|(bit, _)| bit);
        always.into_iter().chain(offered).fold(0, |features, bit| features | 1 << bit)
    }

    /// `struct virtio_blk_config` (5.2.4). Geometry and size_max are not offered and zero.
    fn config(&self, queues: QueuePlan) -> Vec<u8> {
        let info = &self.info;
        let block = info.logical_block.max(SECTOR as u32);
        let per_physical = (info.physical_block / block).max(1);
        let alignment = block / SECTOR as u32;
        let mut config = Vec::with_capacity(60);
        config.extend((self.size() / SECTOR).to_le_bytes());
        config.extend(0u32.to_le_bytes()); // size_max
        config.extend(seg_max(queues.queue_size).to_le_bytes());
        config.extend([0; 4]); // geometry
        config.extend(block.to_le_bytes());
        config.push(per_physical.ilog2() as u8); // physical_block_exp
        config.push(0); // alignment_offset
        config.extend((per_physical as u16).to_le_bytes()); // min_io_size, in blocks
        config.extend((info.optimal_io / block).to_le_bytes()); // opt_io_size, in blocks
        config.extend([1, 0]); // writeback: it is, and cannot be changed
        config.extend(queues.queues.to_le_bytes());
        let discard = if info.discard { MOST_ZEROES } else { 0 };
        config.extend(discard.to_le_bytes()); // max_discard_sectors
        config.extend(u32::from(info.discard).to_le_bytes()); // max_discard_seg
        config.extend(alignment.to_le_bytes()); // discard_sector_alignment
        config.extend(MOST_ZEROES.to_le_bytes()); // max_write_zeroes_sectors
        config.extend(1u32.to_le_bytes()); // max_write_zeroes_seg
        config.push(info.discard.into()); // write_zeroes_may_unmap
        config.extend([0; 3]);
        config
    }
}

/// Data segments of a request: the queue's descriptors less header and status, and not more than
/// other devices offer (QEMU: 254 for 256).
fn seg_max(queue_size: u16) -> u32 {
    u32::from(queue_size).saturating_sub(2).clamp(1, 254)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUES: QueuePlan = QueuePlan { queues: 2, queue_size: 128, own_fault: false };
    const INFO: DiskInfo = DiskInfo {
        size: 1 << 30,
        logical_block: 512,
        physical_block: 4096,
        optimal_io: 65536,
        read_only: false,
        discard: true,
        flush: true,
    };

    fn word(config: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(config[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn every_field_stands_where_the_standard_has_it() {
        let config = Disk::new(INFO, "").identity(QUEUES).config;
        assert_eq!(config.len(), 60);
        assert_eq!(u64::from_le_bytes(config[..8].try_into().unwrap()), (1 << 30) / 512);
        assert_eq!((word(&config, 12), word(&config, 20)), (126, 512));
        assert_eq!((config[24], config[25]), (3, 0));
        assert_eq!(u16::from_le_bytes([config[26], config[27]]), 8);
        assert_eq!(word(&config, 28), 128);
        assert_eq!(
            (config[32], config[33], u16::from_le_bytes([config[34], config[35]])),
            (1, 0, 2)
        );
        assert_eq!((word(&config, 36), word(&config, 40), word(&config, 44)), (1 << 21, 1, 1));
        assert_eq!((word(&config, 48), word(&config, 52), config[56]), (1 << 21, 1, 1));
    }

    #[test]
    fn a_disk_of_large_blocks_counts_in_them() {
        let info = DiskInfo { logical_block: 4096, ..INFO };
        let disk = Disk::new(info, "");
        let config = disk.identity(QUEUES).config;
        assert_eq!((word(&config, 20), config[24], word(&config, 28)), (4096, 0, 16));
        assert_eq!(word(&config, 44), 8);
        assert!(disk.contains(4096, 8192));
        assert!(!disk.contains(512, 4096) && !disk.contains(4096, 512));
    }

    #[test]
    fn a_read_only_disk_offers_nothing_that_writes() {
        let info = DiskInfo { read_only: true, flush: false, ..INFO };
        let features = Disk::new(info, "").identity(QUEUES).features;
        let has = |bit: u32| features & 1 << bit != 0;
        assert!(has(VIRTIO_BLK_F_RO) && has(VIRTIO_BLK_F_MQ));
        assert!(!has(VIRTIO_BLK_F_DISCARD) && !has(VIRTIO_BLK_F_WRITE_ZEROES));
        assert!(!has(VIRTIO_BLK_F_FLUSH));
    }

    #[test]
    fn ranges_outside_the_disk_are_not_in_it() {
        let disk = Disk::new(INFO, "");
        assert!(disk.contains((1 << 30) - 512, 512) && disk.contains(1 << 30, 0));
        assert!(!disk.contains((1 << 30) - 512, 1024) && !disk.contains(u64::MAX - 511, 1024));
        assert!(!disk.contains(100, 512) && !disk.contains(512, 100));
    }

    #[test]
    fn a_serial_is_padded_or_cut() {
        assert_eq!(&Disk::new(INFO, "abc").id[..4], b"abc\0");
        assert_eq!(&Disk::new(INFO, "0123456789012345678901").id, b"01234567890123456789");
    }
}
