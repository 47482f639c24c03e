//! The kernel's command line, zero-terminated.

use bulkhead_memory::{GuestMemory, GuestRange};

use crate::error::BootError;
use crate::places::{COMMAND_LINE, COMMAND_LINE_ROOM};

/// Writes it behind `name`, which the protocol wants; both together may have `most` bytes.
pub(crate) fn write(
    name: &str,
    text: &str,
    memory: &GuestMemory,
    most: usize,
) -> Result<(), BootError> {
    let most = most.min(COMMAND_LINE_ROOM - 1).saturating_sub(name.len());
    if text.len() > most {
        return Err(BootError::CommandLineTooLong { len: text.len(), most });
    }
    if text.contains('\0') {
        return Err(BootError::CommandLineCut);
    }
    let line = [name, text, "\0"].concat();
    let place = memory.check(GuestRange::new(COMMAND_LINE, line.len() as u64))?;
    Ok(place.copy_out(line.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::ram;

    #[test]
    fn it_ends_with_a_zero_even_over_an_older_one() {
        let (memory, _) = ram(2 << 20);
        write("", "console=ttyS0 a=very-long-one", &memory, 100).unwrap();
        write("", "quiet", &memory, 100).unwrap();
        let mut back = [0xff; 6];
        memory.check(GuestRange::new(COMMAND_LINE, 6)).unwrap().copy_in(&mut back).unwrap();
        assert_eq!(&back, b"quiet\0");
    }

    #[test]
    fn one_byte_too_many_is_refused_with_both_numbers() {
        let (memory, _) = ram(2 << 20);
        write("", "12345", &memory, 5).unwrap();
        let error = write("", "123456", &memory, 5).unwrap_err();
        assert_eq!(error.to_string(), "the kernel's command line has 6 bytes, it takes 5");
    }

    #[test]
    fn a_zero_byte_is_refused() {
        let (memory, _) = ram(2 << 20);
        assert!(matches!(write("", "a\0b", &memory, 100), Err(BootError::CommandLineCut)));
    }
}
