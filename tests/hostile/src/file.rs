//! A file of which only what is not zeroes takes memory, as on a host: what an image costs is the block
//! layer's memory and not its file's.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bulkhead_block_layer::memory::{Heap, Memory};
use bulkhead_block_layer::outcome::{Failure, Outcome};
use bulkhead_block_layer::storage::Storage;

const PAGE: u64 = 4096;

/// No file grows beyond this, as by a limit of the host.
const LONGEST: u64 = 1 << 40;

/// Pages that a file has at most: a disk with that much room.
const MOST_PAGES: usize = 4096;

/// Clones are the same file.
#[derive(Debug, Clone, Default)]
pub struct SparseFile(Rc<RefCell<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    pages: BTreeMap<u64, Box<[u8]>>,
    len: u64,
}

/// The page of a byte, and the bytes from there to the page's end, or `left` if that is less.
fn part(at: u64, left: usize) -> (u64, usize, usize) {
    let within = (at % PAGE) as usize;
    (at / PAGE, within, left.min(PAGE as usize - within))
}

impl Inner {
    fn read(&self, mut at: u64, mut into: &mut [u8]) {
        while !into.is_empty() {
            let (page, within, len) = part(at, into.len());
            let (now, rest) = into.split_at_mut(len);
            match self.pages.get(&page) {
                Some(bytes) => now.copy_from_slice(&bytes[within..within + len]),
                None => now.fill(0),
            }
            (at, into) = (at + len as u64, rest);
        }
    }

    fn write(&mut self, mut at: u64, mut from: &[u8]) -> Outcome {
        let end = at.checked_add(from.len() as u64).filter(|end| *end <= LONGEST);
        self.len = self.len.max(end.ok_or(Failure::TOO_LARGE)?);
        while !from.is_empty() {
            let (page, within, len) = part(at, from.len());
            let (now, rest) = from.split_at(len);
            if self.pages.contains_key(&page) || now.iter().any(|byte| *byte != 0) {
                if self.pages.len() >= MOST_PAGES && !self.pages.contains_key(&page) {
                    return Err(Failure::NO_SPACE);
                }
                let fresh = || vec![0; PAGE as usize].into_boxed_slice();
                let bytes = self.pages.entry(page).or_insert_with(fresh);
                bytes[within..within + len].copy_from_slice(now);
            }
            (at, from) = (at + len as u64, rest);
        }
        Ok(())
    }

    /// Fills what is there between two places.
    fn fill(&mut self, at: u64, end: u64, with: u8) {
        for (page, bytes) in self.pages.range_mut(at / PAGE..end.div_ceil(PAGE)) {
            let first = page * PAGE;
            let (from, to) = (at.max(first) - first, end.min(first + PAGE) - first);
            bytes[from as usize..to as usize].fill(with);
        }
    }
}

impl SparseFile {
    /// A file with these bytes.
    pub fn with(bytes: &[u8]) -> Self {
        let file = Self::default();
        file.0.borrow_mut().write(0, bytes).expect("inputs are short");
        file
    }
}

impl Storage for SparseFile {
    async fn read(&self, at: u64, into: Memory) -> Outcome {
        let heap = Heap::zeroes(into.len() as usize);
        heap.with(|bytes| self.0.borrow().read(at, bytes));
        Memory::from(heap).copy_into(&into)
    }

    async fn write(&self, at: u64, from: Memory) -> Outcome {
        let heap = Heap::zeroes(from.len() as usize);
        from.copy_into(&heap.clone().into())?;
        heap.with(|bytes| self.0.borrow_mut().write(at, bytes))
    }

    async fn zero(&self, at: u64, len: u64) -> Outcome {
        let end = at.checked_add(len).filter(|end| *end <= LONGEST).ok_or(Failure::TOO_LARGE)?;
        let inner = &mut *self.0.borrow_mut();
        inner.len = inner.len.max(end);
        inner.fill(at, end, 0);
        Ok(())
    }

    /// With rubbish, so that whoever still reads it is found out.
    async fn discard(&self, at: u64, len: u64) -> Outcome {
        let inner = &mut *self.0.borrow_mut();
        let end = at.saturating_add(len).min(inner.len);
        if at < end {
            inner.fill(at, end, 0xDB);
        }
        Ok(())
    }

    async fn sync(&self) -> Outcome {
        Ok(())
    }

    fn size(&self) -> Result<u64, Failure> {
        Ok(self.0.borrow().len)
    }

    fn grows(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_block_layer::task::finish;

    use super::*;

    #[test]
    fn bytes_come_back_and_zeroes_cost_nothing() {
        let file = SparseFile::with(&[7; 5000]);
        finish(file.write(1 << 30, Heap::copy_of(&[0; 100_000]).into())).unwrap();
        assert_eq!((file.size(), file.0.borrow().pages.len()), (Ok((1 << 30) + 100_000), 2));
        finish(file.zero(4000, 200)).unwrap();
        let back = Heap::zeroes(6000);
        finish(file.read(0, back.clone().into())).unwrap();
        let expected = [vec![7; 4000], vec![0; 200], vec![7; 800], vec![0; 1000]].concat();
        assert_eq!(back.to_vec(), expected);
        finish(file.discard(4999, 1 << 40)).unwrap();
        finish(file.read(0, back.clone().into())).unwrap();
        assert_eq!(back.to_vec()[4998..5001], [7, 0xDB, 0xDB]);
        assert_eq!(finish(file.zero(LONGEST, 1)), Err(Failure::TOO_LARGE));
    }
}
