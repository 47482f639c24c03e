//! Random bytes from the kernel.

use std::io;

/// Most bytes that `getrandom` hands out without being interruptible (`man 2 getrandom`).
const PIECE: usize = 256;

/// Fills `to` from the kernel's generator, the one behind `/dev/urandom`.
pub fn fill(to: &mut [u8]) -> io::Result<()> {
    for piece in to.chunks_mut(PIECE) {
        // SAFETY: the pointer and the length are those of `piece`.
        let got = unsafe { libc::getrandom(piece.as_mut_ptr().cast(), piece.len(), 0) };
        if usize::try_from(got) != Ok(piece.len()) {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_draws_differ() {
        let (mut a, mut b) = ([0; 600], [0; 600]);
        super::fill(&mut a).unwrap();
        super::fill(&mut b).unwrap();
        assert_ne!(a, b);
        assert_ne!(a[590..], [0; 10]);
    }
}
