//! The initial RAM disk: as high in low memory as the kernel allows, away from what it unpacks to.

use bulkhead_memory::{GuestMemory, GuestRange};

use crate::Loaded;
use crate::error::BootError;
use crate::image::Image;

const PAGE: u64 = 4096;

/// Loads it and says where it is.
pub(crate) fn load(
    image: &Image<'_>,
    memory: &GuestMemory,
    ram_end: u64,
    kernel: &Loaded,
) -> Result<GuestRange, BootError> {
    let top = ram_end.min(kernel.initrd_max.saturating_add(1));
    let room = top.saturating_sub(kernel.end.next_multiple_of(PAGE));
    let size = image.len();
    if size > room {
        return Err(BootError::InitrdDoesNotFit { size, room });
    }
    if size == 0 {
        return Err(image.damaged("it is empty"));
    }
    // Rounding down stays above the kernel: its end was rounded up to the same multiple.
    let range = GuestRange::new((top - size) & !(PAGE - 1), size);
    image.read_to_guest(0, memory, range)?;
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;
    use crate::tests::{file, ram};

    const KERNEL: Loaded = Loaded {
        entry: 0x10_0000,
        end: 0x20_0001,
        initrd_max: 0x7fff_ffff,
        command_line_max: 2047,
        protocol: Protocol::Pvh,
    };

    fn place(bytes: &[u8], ram_end: u64, kernel: &Loaded) -> Result<GuestRange, BootError> {
        let file = file(bytes);
        let image = Image::new(&file, "initrd", &|| {}).unwrap();
        let (memory, _) = ram(ram_end);
        let range = load(&image, &memory, ram_end, kernel)?;
        let mut back = vec![0; bytes.len()];
        memory.check(range).unwrap().copy_in(&mut back).unwrap();
        assert!(back == bytes);
        Ok(range)
    }

    #[test]
    fn it_lies_on_a_page_at_the_top() {
        let range = place(&[7; 5000], 4 << 20, &KERNEL).unwrap();
        assert_eq!(range, GuestRange::new((4 << 20) - 8192, 5000));
    }

    #[test]
    fn it_stays_below_what_the_kernel_can_reach() {
        let kernel = Loaded { initrd_max: 0x2f_ffff, ..KERNEL };
        let range = place(&[7; 4096], 4 << 20, &kernel).unwrap();
        assert_eq!(range, GuestRange::new(0x2f_f000, 4096));
    }

    #[test]
    fn it_fills_the_room_exactly_but_never_overlaps_the_kernel() {
        let room = (4 << 20) - 0x20_1000;
        assert_eq!(place(&vec![7; room], 4 << 20, &KERNEL).unwrap().addr, 0x20_1000);
        let error = place(&vec![7; room + 1], 4 << 20, &KERNEL).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the initrd has {} bytes, but there is room for {room} beside the kernel",
                room + 1
            )
        );
    }

    #[test]
    fn a_kernel_that_fills_all_ram_leaves_no_room() {
        let kernel = Loaded { end: 4 << 20, ..KERNEL };
        assert!(matches!(
            place(&[7], 4 << 20, &kernel),
            Err(BootError::InitrdDoesNotFit { room: 0, .. })
        ));
    }

    #[test]
    fn an_empty_one_is_refused() {
        assert!(place(&[], 4 << 20, &KERNEL).is_err());
    }
}
