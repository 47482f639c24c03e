//! A file as a program without threads uses it: every call blocks, no future ever waits.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use bulkhead_sys::file::{self, FileKind};

use super::Storage;
use crate::memory::{Heap, Memory};
use crate::outcome::{Failure, Outcome};

/// Bytes of zeroes written by one call where the host cannot make them.
const PIECE: u64 = 1 << 20;

/// The file.
#[derive(Debug)]
pub struct Plain {
    file: File,
    grows: bool,
    /// Do not wait for the device: `cache=unsafe`.
    careless: bool,
}

impl Plain {
    /// A file, opened as the caller means to use it.
    pub fn new(fd: OwnedFd, careless: bool) -> io::Result<Self> {
        let grows = file::kind(&fd)? == FileKind::Regular;
        Ok(Self { file: File::from(fd), grows, careless })
    }

    /// Makes the file `len` bytes long.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        if self.grows { self.file.set_len(len) } else { Ok(()) }
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn read_heap(&self, at: u64, heap: &Heap) -> io::Result<()> {
        heap.with(|bytes| {
            let mut done = 0;
            while done < bytes.len() {
                match self.file.read_at(&mut bytes[done..], at + done as u64) {
                    Ok(0) => {
                        bytes[done..].fill(0);
                        break;
                    }
                    Ok(count) => done += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }

    fn write_zeroes(&self, at: u64, len: u64) -> io::Result<()> {
        let zeroes = vec![0; PIECE.min(len) as usize];
        let mut done = 0;
        while done < len {
            let piece = PIECE.min(len - done) as usize;
            self.file.write_all_at(&zeroes[..piece], at + done)?;
            done += piece as u64;
        }
        Ok(())
    }
}

impl Storage for Plain {
    async fn read(&self, at: u64, into: Memory) -> Outcome {
        match &into {
            Memory::Heap(heap) => Ok(self.read_heap(at, heap)?),
            Memory::Arena { .. } => {
                let heap = Heap::zeroes(into.len() as usize);
                self.read_heap(at, &heap)?;
                Memory::from(heap).copy_into(&into)
            }
        }
    }

    async fn write(&self, at: u64, from: Memory) -> Outcome {
        match &from {
            Memory::Heap(heap) => Ok(heap.with(|bytes| self.file.write_all_at(bytes, at))?),
            Memory::Arena { .. } => {
                let heap = Heap::zeroes(from.len() as usize);
                from.copy_into(&heap.clone().into())?;
                Ok(heap.with(|bytes| self.file.write_all_at(bytes, at))?)
            }
        }
    }

    async fn zero(&self, at: u64, len: u64) -> Outcome {
        let end = at + len;
        if self.grows && self.size()? < end {
            self.set_len(end)?;
        }
        match file::punch_hole(&self.file, at, len) {
            Ok(()) => Ok(()),
            Err(_) => Ok(self.write_zeroes(at, len)?),
        }
    }

    async fn discard(&self, at: u64, len: u64) -> Outcome {
        // What cannot be given back is kept.
        let _ = file::punch_hole(&self.file, at, len);
        Ok(())
    }

    async fn sync(&self) -> Outcome {
        if self.careless {
            return Ok(());
        }
        Ok(file::sync_data(&self.file)?)
    }

    fn size(&self) -> Result<u64, Failure> {
        Ok(file::size(&self.file)?)
    }

    fn grows(&self) -> bool {
        self.grows
    }
}
