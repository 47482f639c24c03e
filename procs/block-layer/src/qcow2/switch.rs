//! The one write that puts a header in force.

use super::Qcow2;
use super::header::{Header, replace};
use crate::memory::Heap;
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
            self.file.write(at, Heap::copy_of(&name).into()).await?;
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
        self.file.write(0, Heap::copy_of(first).into()).await?;
        self.file.sync().await
    }
}
