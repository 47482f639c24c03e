//! Linux AIO: many direct transfers in flight from one thread.
//!
//! A [`Queue`] belongs to one thread. Transfers are added, handed to the kernel together, and collected
//! when the bell has rung; what each was for comes back with how it ended. The kernel knows a transfer by
//! its slot, and a slot keeps the mapping until the kernel is done with it.
//!
//! Law: contexts are made before the seal, and a process that has one is reaped some thirty milliseconds
//! later than others: the kernel waits for its transfers first, and takes the context apart slowly. That
//! wait is a fence: nothing of a reaped process is written afterwards.
//!
//! Absent on purpose: files that are not opened for direct I/O (the kernel would transfer while it takes
//! the order, which blocks), flushes, cancelling.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use crate::eventfd::Doorbell;
use crate::mapping::SharedMapping;

const READ: u16 = 0;
const WRITE: u16 = 1;

/// `IOCB_FLAG_RESFD`: ring an eventfd.
const RING: u32 = 1;

/// Most completions that one call collects.
const BATCH: usize = 64;

/// One transfer between a file and a mapping.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// To the file.
    pub write: bool,
    /// The first byte in the file.
    pub position: u64,
    /// The memory.
    pub mapping: Arc<SharedMapping>,
    /// The first byte there.
    pub offset: usize,
    /// Bytes.
    pub len: usize,
}

/// As the kernel writes it: `struct io_event`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Event {
    data: u64,
    object: u64,
    result: i64,
    more: i64,
}

#[derive(Debug)]
struct Slot<T> {
    /// The kernel may still transfer from or to it.
    _mapping: Arc<SharedMapping>,
    ticket: T,
}

/// See the module. `T` is what a transfer is for.
#[derive(Debug)]
pub struct Queue<T> {
    context: libc::c_ulong,
    bell: Doorbell,
    slots: Vec<Option<Slot<T>>>,
    free: Vec<usize>,
    /// Added and not submitted.
    added: Vec<libc::iocb>,
}

impl<T> Queue<T> {
    /// A queue for `depth` transfers at a time.
    pub fn new(depth: u16) -> io::Result<Self> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: the kernel writes one word to the place it is given.
        let done =
            unsafe { libc::syscall(libc::SYS_io_setup, libc::c_long::from(depth), &mut context) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            context,
            bell: Doorbell::new()?,
            slots: (0..depth).map(|_| None).collect(),
            free: (0..usize::from(depth)).collect(),
            added: Vec::with_capacity(usize::from(depth)),
        })
    }

    /// Rung when transfers are over.
    pub fn bell(&self) -> &Doorbell {
        &self.bell
    }

    /// Whether there is room for one more.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Whether some are not collected yet.
    pub fn is_busy(&self) -> bool {
        self.free.len() < self.slots.len()
    }

    /// Adds a transfer on `file`, which stays open until [`submit`](Self::submit). `Err`: there is no room, or the range does not lie in the mapping.
    pub fn add(&mut self, file: impl AsFd, transfer: Transfer, ticket: T) -> Result<(), T> {
        let Transfer { write, position, mapping, offset, len } = transfer;
        if mapping.check(offset, len).is_err() {
            return Err(ticket);
        }
        let Some(slot) = self.free.pop() else {
            return Err(ticket);
        };
        // SAFETY: all zeroes are a valid iocb.
        let mut order = unsafe { std::mem::zeroed::<libc::iocb>() };
        order.aio_data = slot as u64;
        order.aio_lio_opcode = if write { WRITE } else { READ };
        order.aio_fildes = file.as_fd().as_raw_fd() as u32;
        // SAFETY: the range was checked.
        order.aio_buf = unsafe { mapping.as_ptr().add(offset) } as u64;
        order.aio_nbytes = len as u64;
        order.aio_offset = position as i64;
        order.aio_flags = RING;
        order.aio_resfd = self.bell.as_raw_fd() as u32;
        self.slots[slot] = Some(Slot { _mapping: mapping, ticket });
        self.added.push(order);
        Ok(())
    }

    /// Hands to the kernel what was added. One that it does not take comes back: it is to be done in another
    /// way.
    pub fn submit(&mut self, mut refused: impl FnMut(T)) {
        let mut orders: Vec<*mut libc::iocb> =
            self.added.iter_mut().map(|order| &raw mut *order).collect();
        let mut rest = orders.as_mut_slice();
        while !rest.is_empty() {
            let (count, list) = (rest.len() as libc::c_long, rest.as_mut_ptr());
            // SAFETY: `list` names `count` iocbs that live until this returns; the memory that each names
            // is kept by its slot until its completion was collected.
            let done = unsafe { libc::syscall(libc::SYS_io_submit, self.context, count, list) };
            let taken = match usize::try_from(done) {
                Ok(taken) if taken > 0 => taken,
                _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => continue,
                // It speaks of the first.
                _ => {
                    // SAFETY: one of our iocbs, as above.
                    let slot = unsafe { (*rest[0]).aio_data } as usize;
                    empty_slot(&mut self.slots, &mut self.free, slot).map(&mut refused);
                    1
                }
            };
            rest = &mut rest[taken..];
        }
        self.added.clear();
    }

    /// What is over by now: bytes, or the error. Never waits, and leaves the bell as it is.
    pub fn collect(&mut self, over: impl FnMut(T, io::Result<usize>)) {
        if self.is_busy() {
            self.reap(false, over);
        }
    }

    fn reap(&mut self, wait: bool, mut over: impl FnMut(T, io::Result<usize>)) {
        loop {
            let mut events = [Event::default(); BATCH];
            let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            let time = if wait { std::ptr::null() } else { &raw const zero };
            let least = libc::c_long::from(wait);
            // SAFETY: `events` has room for as many as are asked for, and `time` is a live timespec or null.
            let done = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.context,
                    least,
                    BATCH as libc::c_long,
                    events.as_mut_ptr(),
                    time,
                )
            };
            let count = usize::try_from(done).unwrap_or(0).min(BATCH);
            for event in &events[..count] {
                let result = match usize::try_from(event.result) {
                    Ok(bytes) => Ok(bytes),
                    Err(_) => Err(io::Error::from_raw_os_error((-event.result) as i32)),
                };
                let slot = event.data as usize;
                if let Some(ticket) = empty_slot(&mut self.slots, &mut self.free, slot) {
                    over(ticket, result);
                }
            }
            if count < BATCH {
                return;
            }
        }
    }
}

/// Empties a slot; what it was for.
fn empty_slot<T>(slots: &mut [Option<Slot<T>>], free: &mut Vec<usize>, slot: usize) -> Option<T> {
    let ticket = slots.get_mut(slot)?.take()?.ticket;
    free.push(slot);
    Some(ticket)
}

impl<T> Drop for Queue<T> {
    /// Waits for the kernel to be done with the memory of every transfer.
    fn drop(&mut self) {
        self.submit(drop);
        while self.is_busy() {
            self.reap(true, |_, _| ());
        }
        // SAFETY: nobody else has the context.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::mapping::Rights;
    use crate::readiness::wait_readable;

    fn memory(bytes: u64) -> Arc<SharedMapping> {
        let object = crate::memfd::create_sealed("aio", bytes).unwrap();
        Arc::new(SharedMapping::map(&object, bytes as usize, Rights::ReadWrite).unwrap())
    }

    fn file(bytes: u64) -> OwnedFd {
        // Where it lies does not matter: on a file that is not direct the kernel transfers at once.
        crate::memfd::create_sealed("file", bytes).unwrap()
    }

    fn collect_all(queue: &mut Queue<u64>) -> Vec<(u64, usize)> {
        let mut all = Vec::new();
        while queue.is_busy() {
            let _rung = wait_readable([queue.bell().as_fd()], None).unwrap();
            queue.collect(|ticket, result| all.push((ticket, result.unwrap())));
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn what_is_written_is_read_and_each_answer_is_its_own() {
        let (file, memory) = (file(64 << 12), memory(128 << 12));
        let mut queue = Queue::new(64).unwrap();
        for page in 0..64u64 {
            memory.copy_out((page as usize) << 12, &[page as u8 + 1; 4096]).unwrap();
            let transfer = Transfer {
                write: true,
                position: page << 12,
                mapping: Arc::clone(&memory),
                offset: (page as usize) << 12,
                len: 4096,
            };
            queue.add(&file, transfer, page).unwrap();
        }
        assert!(!queue.has_room());
        queue.submit(|_| panic!("refused"));
        let expected: Vec<_> = (0..64).map(|page| (page, 4096)).collect();
        assert_eq!(collect_all(&mut queue), expected);
        for page in 0..64u64 {
            let transfer = Transfer {
                write: false,
                position: page << 12,
                mapping: Arc::clone(&memory),
                offset: (127 - page as usize) << 12,
                len: 4096,
            };
            queue.add(&file, transfer, page).unwrap();
        }
        queue.submit(|_| panic!("refused"));
        assert_eq!(collect_all(&mut queue), expected);
        for page in 0..64usize {
            let mut bytes = [0; 4096];
            memory.copy_in((127 - page) << 12, &mut bytes).unwrap();
            assert_eq!(bytes, [page as u8 + 1; 4096]);
        }
    }

    #[test]
    fn the_end_of_the_file_and_what_is_no_file_are_told() {
        let memory = memory(4 << 12);
        let mut queue = Queue::new(4).unwrap();
        let transfer = |write, position, offset| Transfer {
            write,
            position,
            mapping: Arc::clone(&memory),
            offset,
            len: 4096,
        };
        queue.add(file(4096), transfer(false, 4096, 0), 1).unwrap();
        // The descriptor is closed by now.
        let mut refused = Vec::new();
        queue.submit(|ticket| refused.push(ticket));
        assert_eq!(refused, [1]);
        let file = file(4096);
        queue.add(&file, transfer(false, 4096, 0), 2).unwrap();
        assert_eq!(queue.add(&file, transfer(false, 0, 4 << 12), 3), Err(3));
        queue.submit(|_| panic!("refused"));
        assert_eq!(collect_all(&mut queue), [(2, 0)]);
    }
}
