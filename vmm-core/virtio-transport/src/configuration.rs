//! The common configuration structure (4.1.4.3).
//!
//! Reads see it as an image of bytes. Writes count only in the width of a field (or of either half of a
//! 64-bit one); all others are a driver's mistake and change nothing.

use crate::access::{number, read_image};
use crate::registers::{Effect, Registers};

/// Bytes of the structure, without the fields of features that are never offered.
pub(crate) const LEN: usize = 0x38;

const DEVICE_FEATURE_SELECT: u64 = 0x00;
const DEVICE_FEATURE: usize = 0x04;
const DRIVER_FEATURE_SELECT: u64 = 0x08;
const DRIVER_FEATURE: u64 = 0x0c;
const CONFIG_VECTOR: u64 = 0x10;
const NUM_QUEUES: usize = 0x12;
const STATUS: u64 = 0x14;
const GENERATION: usize = 0x15;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_VECTOR: u64 = 0x1a;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_NOTIFY_OFF: usize = 0x1e;
const QUEUE_DESCRIPTORS: u64 = 0x20;
const QUEUE_AVAILABLE: u64 = 0x28;
const QUEUE_USED: u64 = 0x30;

/// The driver's read.
pub(crate) fn read(registers: &Registers, offset: u64, data: &mut [u8]) {
    read_image(&image(registers), offset, data);
}

fn image(registers: &Registers) -> [u8; LEN] {
    let mut image = [0; LEN];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    let features = &registers.features;
    put(DEVICE_FEATURE_SELECT as usize, &features.offered_select.to_le_bytes());
    put(DEVICE_FEATURE, &features.offered_half().to_le_bytes());
    put(DRIVER_FEATURE_SELECT as usize, &features.acknowledged_select.to_le_bytes());
    put(DRIVER_FEATURE as usize, &features.acknowledged_half().to_le_bytes());
    put(CONFIG_VECTOR as usize, &registers.config_vector.to_le_bytes());
    put(NUM_QUEUES, &(registers.queues.len() as u16).to_le_bytes());
    put(STATUS as usize, &[registers.status.bits()]);
    put(GENERATION, &[registers.generation]);
    put(QUEUE_SELECT as usize, &registers.queue_select.to_le_bytes());
    // A queue that does not exist has size 0, and nothing else.
    if let Some(queue) = registers.selected() {
        put(QUEUE_SIZE as usize, &queue.size.to_le_bytes());
        put(QUEUE_VECTOR as usize, &queue.vector.to_le_bytes());
        put(QUEUE_ENABLE as usize, &u16::from(queue.enabled.is_some()).to_le_bytes());
        put(QUEUE_NOTIFY_OFF, &registers.queue_select.to_le_bytes());
        put(QUEUE_DESCRIPTORS as usize, &queue.descriptors.to_le_bytes());
        put(QUEUE_AVAILABLE as usize, &queue.available.to_le_bytes());
        put(QUEUE_USED as usize, &queue.used.to_le_bytes());
    }
    image
}

/// The driver's write. Until a reset is complete nothing can be changed.
pub(crate) fn write(registers: &mut Registers, offset: u64, data: &[u8]) -> Option<Effect> {
    let value = number(data)?;
    if registers.status.is_leaving() {
        return None;
    }
    match data.len() {
        1 if offset == STATUS => registers.set_status(value as u8),
        2 => write_16(registers, offset, value as u16),
        4 => {
            write_32(registers, offset, value as u32);
            None
        }
        8 => {
            if let Some(address) = address(registers, offset) {
                *address = value;
            }
            None
        }
        _ => None,
    }
}

fn write_16(registers: &mut Registers, offset: u64, value: u16) -> Option<Effect> {
    match offset {
        CONFIG_VECTOR => registers.config_vector = registers.vector(value),
        QUEUE_SELECT => registers.queue_select = value,
        QUEUE_VECTOR => return registers.set_queue_vector(value),
        QUEUE_ENABLE if value == 1 => registers.enable_selected(),
        QUEUE_SIZE => {
            let greatest = registers.greatest_size;
            if let Some(queue) = registers.arranging() {
                queue.set_size(value, greatest);
            }
        }
        _ => {}
    }
    None
}

fn write_32(registers: &mut Registers, offset: u64, value: u32) {
    match offset {
        DEVICE_FEATURE_SELECT => registers.features.offered_select = value,
        DRIVER_FEATURE_SELECT => registers.features.acknowledged_select = value,
        DRIVER_FEATURE if registers.status.is_choosing() => registers.features.acknowledge(value),
        _ => {
            let upper = offset & 4 != 0;
            if let Some(address) = address(registers, offset & !4) {
                let shift = if upper { 32 } else { 0 };
                *address = *address & !(0xffff_ffff << shift) | u64::from(value) << shift;
            }
        }
    }
}

/// The 64-bit address register at `offset`, if it may be changed now.
fn address(registers: &mut Registers, offset: u64) -> Option<&mut u64> {
    let queue = registers.arranging()?;
    match offset {
        QUEUE_DESCRIPTORS => Some(&mut queue.descriptors),
        QUEUE_AVAILABLE => Some(&mut queue.available),
        QUEUE_USED => Some(&mut queue.used),
        _ => None,
    }
}
