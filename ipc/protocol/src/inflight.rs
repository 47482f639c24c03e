//! Layout of the in-flight tables: one memfd per device process, made and kept by the supervisor.
//!
//! The format is vhost-user's ("Inflight I/O tracking"): for each queue a region, aligned to 64
//! bytes, of a header and one descriptor per slot. Split and packed queues have different regions;
//! the memfd is sized for the larger (packed), so that one object serves whatever is negotiated.

/// Bytes of a split region's header: features u64, version u16, desc_num u16, last_batch_head u16,
/// used_idx u16.
pub const SPLIT_HEADER: u64 = 16;

/// Bytes of a split region's descriptor: inflight u8, padding [u8; 5], next u16, counter u64.
pub const SPLIT_DESCRIPTOR: u64 = 16;

/// Bytes of a packed region's header: features u64, version u16, desc_num u16, free_head u16,
/// old_free_head u16, used_idx u16, old_used_idx u16, used_wrap_counter u8,
/// old_used_wrap_counter u8, padding [u8; 7], rounded up to eight.
pub const PACKED_HEADER: u64 = 32;

/// Bytes of a packed region's descriptor: inflight u8, padding u8, next u16, last u16, num u16,
/// counter u64, id u16, flags u16, len u32, addr u64.
pub const PACKED_DESCRIPTOR: u64 = 32;

/// Regions begin at multiples of this many bytes (libvhost-user's `INFLIGHT_ALIGNMENT`).
pub const ALIGNMENT: u64 = 64;

/// Bytes from one queue's region to the next, whichever format is negotiated.
pub const fn stride(queue_size: u16) -> u64 {
    (PACKED_HEADER + PACKED_DESCRIPTOR * queue_size as u64).next_multiple_of(ALIGNMENT)
}

/// Bytes of the whole table, a multiple of 4096.
pub const fn table_size(queues: u16, queue_size: u16) -> u64 {
    (stride(queue_size) * queues as u64).next_multiple_of(4096)
}
