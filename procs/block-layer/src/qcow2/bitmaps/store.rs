//! Bitmaps come from the file and go to the file.

use std::rc::Rc;

use super::{Tracked, kept};
use crate::bitmap::Bits;
use crate::memory::Heap;
use crate::outcome::{Failure, Outcome};
use crate::qcow2::header::{autoclear, extensions::Bitmaps};
use crate::qcow2::shadow::Shadow;
use crate::qcow2::{OpenError, Qcow2};
use crate::storage::Storage;

/// No bitmap comes or goes.
pub(super) fn as_they_are(_: &mut Vec<Rc<Tracked>>) {}

impl<S: Storage> Qcow2<S> {
    /// Reads what there is when the image is opened; one that is written is marked as in use.
    pub(in crate::qcow2) async fn load_bitmaps(
        &self,
        kept: &kept::Inherited,
    ) -> Result<(), OpenError> {
        self.read_directory().await?;
        if self.options.read_only {
            return Ok(());
        }
        let directory = self.directory_at();
        for (index, bitmap) in self.bitmaps().iter().enumerate() {
            let inherited = kept.has(directory, index as u64);
            if bitmap.is_in_use() && !inherited {
                continue;
            }
            let mut bits = self.read_bits(bitmap).await?;
            *bitmap.since.borrow_mut() = Bits::new(self.size(), bitmap.granularity());
            for (at, len) in kept.dirty(directory, index as u64) {
                bits.set(at, len);
                bitmap.since.borrow_mut().set(at, len);
                bitmap.changed.set(true);
            }
            *bitmap.marks.borrow_mut() = Some(bits.into());
        }
        Ok(self.use_bitmaps().await?)
    }

    /// From here on the file's bits are not those of the disk.
    pub(in crate::qcow2) async fn use_bitmaps(&self) -> Outcome {
        // First the journal: a mark without its word would make them inconsistent.
        self.note_bitmaps();
        if self.bitmaps().iter().all(|bitmap| bitmap.is_in_use()) {
            return Ok(());
        }
        self.mark_in_use(true).await
    }

    pub(super) fn directory_at(&self) -> u64 {
        self.state.borrow().header.extensions.bitmaps.map_or(0, |bitmaps| bitmaps.directory_at)
    }

    /// The flags are changed where they are: each is right by itself.
    async fn mark_in_use(&self, in_use: bool) -> Outcome {
        let mut bytes = Vec::new();
        for bitmap in &self.bitmaps() {
            let mut entry = bitmap.entry.borrow_mut();
            if bitmap.is_loaded() {
                entry.set_flags(in_use, bitmap.enabled.get());
            }
            bytes.extend(entry.write());
        }
        bytes.resize(bytes.len().next_multiple_of(self.geometry.cluster() as usize), 0);
        self.file.write(self.directory_at(), Heap::copy_of(&bytes).into()).await?;
        self.file.sync().await
    }

    /// The image is closed: the bitmaps go to the file and are in use no more.
    pub(in crate::qcow2) async fn store_all(&self) -> Outcome {
        let bitmaps = self.bitmaps();
        if !bitmaps.iter().any(|bitmap| bitmap.is_loaded()) {
            return Ok(());
        }
        match bitmaps.iter().any(|bitmap| bitmap.changed.get()) {
            true => self.store(as_they_are, false).await?,
            false => self.mark_in_use(false).await?,
        }
        self.shut.set(true);
        Ok(())
    }

    /// Makes what `change` makes of them the image's bitmaps, as they are once nobody else changes the image. All of
    /// it comes into force at once.
    pub(super) async fn store(
        &self,
        change: impl FnOnce(&mut Vec<Rc<Tracked>>),
        in_use: bool,
    ) -> Outcome {
        let mut shadow = Shadow::begin(self).await?;
        let mut bitmaps = self.bitmaps();
        change(&mut bitmaps);
        if let Some(old) = shadow.header.extensions.bitmaps.filter(|_| shadow.header.has_bitmaps())
        {
            shadow.release(old.directory_at, old.directory_bytes).await?;
        }
        let stays = |old: &Rc<Tracked>| bitmaps.iter().any(|new| Rc::ptr_eq(old, new));
        for old in self.bitmaps().iter().filter(|old| !stays(old) || old.changed.get()) {
            self.release_bits(&mut shadow, old).await?;
        }
        let mut entries = Vec::new();
        for bitmap in &bitmaps {
            let mut entry = bitmap.entry.borrow().clone();
            if bitmap.changed.get() {
                let bits = bitmap.bits().ok_or(Failure::IO)?;
                // What is set from here on is not in what is written.
                bitmap.changed.set(false);
                let table = self.place_bits(&mut shadow, &bits).await?;
                entry.set_table(shadow.place_numbers(&table, table.len() as u64).await?, table);
            }
            let usable = bitmap.is_loaded();
            if usable {
                entry.set_flags(in_use, bitmap.enabled.get());
            }
            entries.push(entry);
        }
        let directory: Vec<u8> = entries.iter().flat_map(super::Entry::write).collect();
        let (count, directory_bytes) = (bitmaps.len() as u32, directory.len() as u64);
        let directory_at = shadow.place(directory).await?;
        let place = Bitmaps { count, directory_bytes, directory_at };
        shadow.header.extensions.bitmaps = (count > 0).then_some(place);
        shadow.header.autoclear &= !autoclear::BITMAPS;
        if count > 0 {
            shadow.header.autoclear |= autoclear::BITMAPS;
        }
        if in_use {
            self.note_consistent(directory_at, &bitmaps);
        }
        let done = self.put_in_force(shadow, &bitmaps, entries).await;
        if done.is_err() {
            bitmaps.iter().for_each(|bitmap| bitmap.changed.set(true));
        }
        done
    }

    async fn put_in_force(
        &self,
        shadow: Shadow<'_, S>,
        bitmaps: &[Rc<Tracked>],
        entries: Vec<super::Entry>,
    ) -> Outcome {
        let old: Vec<super::Entry> = bitmaps.iter().map(|b| b.entry.borrow().clone()).collect();
        let were = self.bitmaps.replace(bitmaps.to_vec());
        for (bitmap, entry) in bitmaps.iter().zip(entries) {
            *bitmap.entry.borrow_mut() = entry;
        }
        let done = shadow.finish().await;
        if done.is_err() {
            *self.bitmaps.borrow_mut() = were;
            for (bitmap, entry) in bitmaps.iter().zip(old) {
                *bitmap.entry.borrow_mut() = entry;
            }
            return done;
        }
        for bitmap in bitmaps {
            let mut since = bitmap.since.borrow_mut();
            let size = if bitmap.is_loaded() { self.size() } else { 0 };
            *since = Bits::new(size, bitmap.granularity());
        }
        Ok(())
    }

    async fn release_bits(&self, shadow: &mut Shadow<'_, S>, bitmap: &Tracked) -> Outcome {
        let (at, table) = {
            let entry = bitmap.entry.borrow();
            (entry.at, entry.table.clone())
        };
        shadow.release(at, table.len() as u64 * 8).await?;
        for at in table.into_iter().filter(|at| *at > 1) {
            shadow.release(at, self.geometry.cluster()).await?;
        }
        Ok(())
    }

    /// Writes the bits; the table that says where. Clusters whose bits are all alike take no room.
    async fn place_bits(
        &self,
        shadow: &mut Shadow<'_, S>,
        bits: &Bits,
    ) -> Result<Vec<u64>, Failure> {
        let cluster = self.geometry.cluster();
        let mut table = Vec::new();
        for first in (0..bits.granules()).step_by(cluster as usize * 8) {
            table.push(match bits.alike(first, cluster * 8) {
                Some(false) => 0,
                Some(true) => 1,
                None => shadow.place(bits.bytes(first, cluster as usize)).await?,
            });
        }
        Ok(table)
    }
}
