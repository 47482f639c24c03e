//! Linux AIO: positioned reads and writes past the page cache, many in flight from one thread.
//!
//! Called by the block layer's lanes. A context belongs to one thread and is made before the seal;
//! `io_setup` and `io_destroy` are in no filter.
//!
//! Why this and not io_uring: the kernel waits for a dying process's AIO before it can be reaped, so
//! nothing lands in a file after the reap. io_uring's workers give no such promise.
//!
//! Law: a transfer in flight owns what keeps its memory mapped (`T`), and gives it back when it is over.
//! For files without O_DIRECT submission is synchronous; this module does not care.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::eventfd::Doorbell;
use crate::mapping::SharedMapping;

/// Which way the data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// File → memory.
    Read,
    /// Memory → file.
    Write,
}

/// One transfer.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// Which way.
    pub direction: Direction,
    /// First byte in the file.
    pub position: u64,
    /// First byte in the mapping.
    pub offset: usize,
    /// Bytes.
    pub len: usize,
    /// Fail with `WouldBlock` where the submission would have to wait (`RWF_NOWAIT`).
    pub nowait: bool,
}

/// `struct iocb` of linux/aio_abi.h on a little-endian machine.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Control {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    len: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    doorbell: u32,
}

/// `struct io_event`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Event {
    data: u64,
    control: u64,
    result: i64,
    result2: i64,
}

const PREAD: u16 = 0;
const PWRITE: u16 = 1;
/// `IOCB_FLAG_RESFD`: ring an eventfd at completion.
const RING: u32 = 1;

/// Completions taken with one call.
const BATCH: usize = 32;

/// A context with room for a fixed number of transfers.
#[derive(Debug)]
pub struct Aio<T> {
    id: libc::c_ulong,
    /// What each transfer in flight owns.
    owners: Vec<Option<T>>,
    free: Vec<usize>,
    /// Prepared and not submitted. Its memory never moves: it has room for all from the start.
    prepared: Vec<Control>,
}

impl<T> Aio<T> {
    /// A context for up to `room` transfers at a time.
    pub fn new(room: usize) -> io::Result<Self> {
        let mut id: libc::c_ulong = 0;
        let count = libc::c_uint::try_from(room).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: writes the new context's id to `id`.
        check(unsafe { libc::syscall(libc::SYS_io_setup, count, &raw mut id) })?;
        Ok(Self {
            id,
            owners: (0..room).map(|_| None).collect(),
            free: (0..room).rev().collect(),
            prepared: Vec::with_capacity(room),
        })
    }

    /// Whether another transfer can be prepared.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Transfers prepared or in flight.
    pub fn outstanding(&self) -> usize {
        self.owners.len() - self.free.len()
    }

    /// Prepares a transfer for the next [`submit`](Self::submit). `bell` is rung when it is over; it,
    /// the file and the mapping must be alive at the submission, and `owner` keeps the mapping's memory
    /// for as long as the transfer takes. Without room, `owner` comes back.
    pub fn prepare(
        &mut self,
        file: impl AsFd,
        memory: &SharedMapping,
        piece: Piece,
        bell: &Doorbell,
        owner: T,
    ) -> Result<(), T> {
        if memory.check(piece.offset, piece.len).is_err() {
            return Err(owner);
        }
        let Some(place) = self.free.pop() else {
            return Err(owner);
        };
        self.owners[place] = Some(owner);
        self.prepared.push(Control {
            data: place as u64,
            rw_flags: if piece.nowait { libc::RWF_NOWAIT } else { 0 },
            opcode: match piece.direction {
                Direction::Read => PREAD,
                Direction::Write => PWRITE,
            },
            file: file.as_fd().as_raw_fd().unsigned_abs(),
            buffer: memory.as_ptr().wrapping_add(piece.offset) as u64,
            len: piece.len as u64,
            offset: piece.position as i64,
            flags: RING,
            doorbell: bell.as_raw_fd().unsigned_abs(),
            ..Control::default()
        });
        Ok(())
    }

    /// Submits all that was prepared. What the kernel refuses is over at once, and reported like any
    /// other by `refused`.
    pub fn submit(&mut self, mut refused: impl FnMut(T, io::Error)) {
        let mut done = 0;
        while done < self.prepared.len() {
            match self.submit_from(done) {
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let place = self.prepared[done].data;
                    done += 1;
                    if let Some(owner) = self.release(place) {
                        refused(owner, error);
                    }
                }
            }
        }
        self.prepared.clear();
    }

    fn submit_from(&self, first: usize) -> io::Result<usize> {
        let mut pointers = [std::ptr::null::<Control>(); BATCH];
        let controls = self.prepared[first..].iter().take(BATCH);
        let count = controls.len();
        for (pointer, control) in pointers.iter_mut().zip(controls) {
            *pointer = control;
        }
        // SAFETY: `pointers` names `count` control blocks, which the kernel copies before it returns.
        // Each names memory of a mapping that its owner in `owners` keeps, or, with O_DIRECT, pages
        // that the kernel pins; all of it is shared memory that nothing holds a reference to.
        let submitted = check(unsafe {
            libc::syscall(libc::SYS_io_submit, self.id, count, pointers.as_ptr())
        })?;
        match submitted {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    /// Takes the transfers that are over, up to a batch; how many there were.
    pub fn reap(&mut self, mut done: impl FnMut(T, io::Result<usize>)) -> io::Result<usize> {
        let mut events = [Event::default(); BATCH];
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let (least, most) = (0 as libc::c_long, BATCH as libc::c_long);
        // SAFETY: `events` has room for BATCH events; `now` outlives the call.
        let result = unsafe {
            let events = events.as_mut_ptr();
            libc::syscall(libc::SYS_io_getevents, self.id, least, most, events, &raw const now)
        };
        let count = check(result)?;
        for event in events.iter().take(count) {
            let result = match usize::try_from(event.result) {
                Ok(count) => Ok(count),
                Err(_) => Err(io::Error::from_raw_os_error(event.result.unsigned_abs() as i32)),
            };
            if let Some(owner) = self.release(event.data) {
                done(owner, result);
            }
        }
        Ok(count)
    }

    fn release(&mut self, place: u64) -> Option<T> {
        let place = usize::try_from(place).ok()?;
        let owner = self.owners.get_mut(place)?.take()?;
        self.free.push(place);
        Some(owner)
    }
}

impl<T> Drop for Aio<T> {
    fn drop(&mut self) {
        // SAFETY: ends the context; the kernel waits for what is in flight before it returns.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.id) };
    }
}

fn check(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    use super::*;
    use crate::mapping::Rights;
    use crate::memfd::create_sealed;

    fn memory() -> Arc<SharedMapping> {
        let object = create_sealed("arena", 1 << 20).unwrap();
        Arc::new(SharedMapping::map(object, 1 << 20, Rights::ReadWrite).unwrap())
    }

    fn file() -> (std::path::PathBuf, std::fs::File) {
        let path = std::env::temp_dir().join(format!("bulkhead-aio-{}", std::process::id()));
        let open =
            std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path);
        (path, open.unwrap())
    }

    #[test]
    fn transfers_end_with_their_owners_and_ring_the_bell() {
        let (path, file) = file();
        file.set_len(64 * 4096).unwrap();
        for number in 0..64 {
            file.write_all_at(&[number as u8; 4096], number * 4096).unwrap();
        }
        let (memory, bell) = (memory(), Doorbell::new().unwrap());
        let mut aio = Aio::new(64).unwrap();
        for number in 0..64 {
            let piece = Piece {
                direction: Direction::Read,
                position: number as u64 * 4096,
                offset: number * 4096,
                len: 4096,
                nowait: false,
            };
            aio.prepare(&file, &memory, piece, &bell, number).unwrap();
        }
        assert!(!aio.has_room());
        aio.submit(|number, error| panic!("{number}: {error}"));
        let mut seen = Vec::new();
        while seen.len() < 64 {
            aio.reap(|number, result| {
                assert_eq!(result.unwrap(), 4096);
                seen.push(number);
            })
            .unwrap();
        }
        assert!(bell.clear());
        seen.sort_unstable();
        assert_eq!(seen, (0..64).collect::<Vec<_>>());
        let mut byte = [0];
        memory.copy_in(63 * 4096, &mut byte).unwrap();
        assert_eq!(byte, [63]);
        assert_eq!(aio.outstanding(), 0);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_the_kernel_refuses_comes_back_and_the_rest_is_submitted() {
        let object = create_sealed("image", 8192).unwrap();
        let (memory, bell) = (memory(), Doorbell::new().unwrap());
        let mut aio = Aio::new(8).unwrap();
        let piece =
            Piece { direction: Direction::Write, position: 0, offset: 0, len: 4096, nowait: false };
        // An eventfd knows no positioned write.
        aio.prepare(&bell, &memory, piece, &bell, "refused").unwrap();
        aio.prepare(&object, &memory, piece, &bell, "done").unwrap();
        let mut refused = Vec::new();
        aio.submit(|owner, _| refused.push(owner));
        let mut done = Vec::new();
        aio.reap(|owner, result| done.push((owner, result.unwrap()))).unwrap();
        assert_eq!((refused, done), (vec!["refused"], vec![("done", 4096)]));
    }

    #[test]
    fn a_piece_outside_the_mapping_never_reaches_the_kernel() {
        let (memory, bell) = (memory(), Doorbell::new().unwrap());
        let mut aio = Aio::new(1).unwrap();
        let direction = Direction::Read;
        let piece = Piece { direction, position: 0, offset: 1 << 20, len: 1, nowait: false };
        assert_eq!(aio.prepare(&bell, &memory, piece, &bell, 5), Err(5));
    }
}
