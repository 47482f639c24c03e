//! The one write that puts a header in force.

use super::Qcow2;
use super::header::{Header, replace};
use crate::memory::{Heap, Memory};
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

impl<S: Storage> Qcow2<S> {
    /// Puts another header in force, with what it refers to, which is in the file. The caller is alone.
    /// Afterwards the state is what the file says.
    pub(super) async fn switch(&self, header: &Header) -> Outcome {
        let (was, prologue) = {
            let state = self.state.borrow();
            (state.header.clone(), state.prologue.clone())
        };
        let new = replace(&prologue, &was, header).ok_or(Failure::TOO_LARGE)?;
        if let Some((at, name)) = new.name {
            // Nothing refers to it yet.
            self.patch(at, &name).await?;
            self.file.sync().await?;
        }
        let done = self.write_header(&new.first).await;
        if done.is_err() {
            self.damaged("its header could not be written: it is as it was, or new");
            return done;
        }
        self.reload().await
    }

    async fn write_header(&self, first: &[u8]) -> Outcome {
        self.patch(0, first).await?;
        self.file.sync().await
    }

    /// Writes bytes of the header's cluster, with what is around them up to the bounds of blocks: a disk that
    /// is written directly takes no less. Sectors that stay as they are may be torn as they like.
    async fn patch(&self, at: u64, bytes: &[u8]) -> Outcome {
        let block = self.geometry.slice();
        let first = at / block * block;
        let end = (at + bytes.len() as u64).next_multiple_of(block);
        let whole = Memory::from(Heap::zeroes((end - first) as usize));
        self.file.read(first, whole.clone()).await?;
        whole.part(at - first, bytes.len() as u64).copy_from(bytes)?;
        self.file.write(first, whole).await
    }
}
