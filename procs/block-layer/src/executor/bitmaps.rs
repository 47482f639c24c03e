//! Dirty bitmaps that users keep on a disk, by name: in this process, with which they die, or in the image
//! of the top layer, by whose journal they outlive it.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use bulkhead_protocol::block_control::{BitmapAction, BitmapState, LONGEST_NAME};
use bulkhead_protocol::block_ring::STATUS_MOST;

use crate::bitmap::{Bitmap, Bits};
use crate::disk::{Attached, Disk, Marked, Watcher};
use crate::node::Served;
use crate::qcow2::{BitmapError, Layer};

/// Bytes of a bit, unless the user says otherwise.
const GRANULARITY: u32 = 64 << 10;

/// Bits of one bitmap: 32 MiB of them.
const MOST_BITS: u64 = 1 << 28;

/// Bitmaps of one disk.
const MOST: usize = 64;

#[derive(Debug)]
struct Kept {
    name: String,
    bitmap: Rc<Bitmap>,
    _attached: Attached<Served>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Bitmaps(RefCell<Vec<Kept>>);

impl Bitmaps {
    /// The bitmap of a name.
    pub fn find(&self, name: &str) -> Option<Rc<Bitmap>> {
        let kept = self.0.borrow();
        kept.iter().find(|kept| kept.name == name).map(|kept| Rc::clone(&kept.bitmap))
    }

    /// The names of all: those of this process, and those of the image.
    pub fn names(&self, disk: &Disk<Served>) -> Vec<String> {
        let own = self.0.borrow().iter().map(|kept| kept.name.clone()).collect::<Vec<_>>();
        match disk.top() {
            Layer::Qcow2(image) => {
                let kept = image.bitmaps();
                own.into_iter().chain(kept.iter().map(|kept| kept.name().to_owned())).collect()
            }
            _ => own,
        }
    }

    /// The disk has another size. The image's have heard of it from the image.
    pub fn resize(&self, size: u64) {
        self.0.borrow().iter().for_each(|kept| kept.bitmap.resize(size));
    }

    /// As they are now: those of this process, and those of the image.
    pub fn states(&self, disk: &Disk<Served>) -> Vec<BitmapState> {
        let own = |kept: &Kept| BitmapState {
            name: kept.name.clone(),
            granularity: kept.bitmap.granularity() as u32,
            dirty: kept.bitmap.dirty_bytes(),
            recording: kept.bitmap.is_enabled(),
            persistent: false,
        };
        let mut states: Vec<_> = self.0.borrow().iter().map(own).collect();
        if let Layer::Qcow2(image) = disk.top() {
            let bitmaps = image.bitmaps();
            let short = bitmaps.iter().filter(|tracked| tracked.name().len() <= LONGEST_NAME);
            states.extend(short.take(MOST).map(|tracked| BitmapState {
                name: tracked.name().to_owned(),
                granularity: u32::try_from(tracked.granularity()).unwrap_or(u32::MAX),
                dirty: tracked.dirty_bytes(),
                recording: tracked.is_enabled() && tracked.is_consistent(),
                persistent: true,
            }));
        }
        states
    }

    /// Does something about one of them.
    pub async fn act(
        &self,
        disk: &Rc<Disk<Served>>,
        name: String,
        action: BitmapAction,
    ) -> Result<(), String> {
        let Some(bitmap) = self.find(&name) else {
            return self.act_beyond(disk, name, action).await;
        };
        if bitmap.is_busy() && !matches!(action, BitmapAction::Add { .. }) {
            return Err(BitmapError::Busy(name).to_string());
        }
        match action {
            BitmapAction::Add { .. } => return Err(format!("there is a bitmap '{name}' already")),
            BitmapAction::Remove => self.0.borrow_mut().retain(|kept| kept.name != name),
            BitmapAction::Clear => bitmap.clear_all(),
            BitmapAction::Enable => bitmap.enable(true),
            BitmapAction::Disable => bitmap.enable(false),
            BitmapAction::Merge(others) => {
                bitmap.merge(&self.together(disk, &others, bitmap.granularity()).await?);
            }
        }
        Ok(())
    }

    /// The same, of a bitmap that this process does not keep by itself: a new one, or the image's.
    async fn act_beyond(
        &self,
        disk: &Rc<Disk<Served>>,
        name: String,
        action: BitmapAction,
    ) -> Result<(), String> {
        if let BitmapAction::Add { granularity, persistent: false, disabled } = action {
            return self.add(disk, name, granularity, disabled).await;
        }
        // Whoever hears that it records may rely on it: no lane writes past the image by then. And what
        // lanes knew before is worth nothing once they may again.
        let barred = disk.bypass().bar().await;
        // A job may have moved the disk to another image meanwhile.
        let image = match (disk.top(), &action) {
            (Layer::Qcow2(image), _) => image,
            (_, BitmapAction::Add { .. }) => {
                return Err("its top layer is no qcow2 image: nothing could keep it".to_owned());
            }
            _ => return Err(format!("there is no bitmap '{name}'")),
        };
        let done = match action {
            BitmapAction::Add { granularity, disabled, .. } => {
                let usual = image.usual_granularity();
                let bytes = if granularity == 0 { usual } else { granularity.into() };
                image.bitmap_add(&name, bytes, !disabled).await
            }
            BitmapAction::Remove => image.bitmap_remove(&name).await,
            BitmapAction::Clear => image.bitmap_clear(&name).await,
            BitmapAction::Enable => image.bitmap_enable(&name, true).await,
            BitmapAction::Disable => image.bitmap_enable(&name, false).await,
            BitmapAction::Merge(others) => {
                let into = image.bitmap(&name).map_err(|error| error.to_string())?;
                let bits = self.together(disk, &others, into.granularity()).await?;
                image.bitmap_merge(&name, &bits).await
            }
        };
        drop(barred);
        done.map_err(|error| error.to_string())
    }

    /// The bitmap of a name, whoever keeps it, with its bits in memory.
    pub async fn marked(&self, disk: &Disk<Served>, name: &str) -> Result<Marked<Served>, String> {
        match (self.find(name), disk.top()) {
            (Some(bitmap), _) => Ok(Marked::Memory(bitmap)),
            (None, Layer::Qcow2(image)) => {
                let tracked = image.bitmap_bits(name).await.map_err(|error| error.to_string())?;
                Ok(Marked::Image(image, tracked))
            }
            (None, _) => Err(format!("there is no bitmap '{name}'")),
        }
    }

    /// What is dirty in any of these.
    async fn together(
        &self,
        disk: &Disk<Served>,
        names: &[String],
        granularity: u64,
    ) -> Result<Bits, String> {
        let mut all = Bits::new(disk.size(), granularity);
        for name in names {
            let bits = self.marked(disk, name).await?.bits();
            all.merge(&bits.ok_or_else(|| format!("the bitmap '{name}' cannot be read"))?);
        }
        Ok(all)
    }

    /// What a bitmap says is dirty in a range, and up to where that is all of it.
    pub async fn dirty(
        &self,
        disk: &Disk<Served>,
        name: &str,
        range: Range<u64>,
    ) -> Result<(Vec<Range<u64>>, u64), String> {
        let marked = self.marked(disk, name).await?;
        let (mut all, mut from) = (Vec::new(), range.start);
        while let Some(dirty) = marked.next_dirty(from, range.end) {
            from = dirty.end;
            all.push(dirty);
            if from >= range.end {
                break;
            }
            if all.len() == STATUS_MOST {
                return Ok((all, from));
            }
        }
        Ok((all, range.end))
    }

    async fn add(
        &self,
        disk: &Rc<Disk<Served>>,
        name: String,
        granularity: u32,
        disabled: bool,
    ) -> Result<(), String> {
        let granularity = if granularity == 0 { GRANULARITY } else { granularity };
        if !granularity.is_power_of_two() || !(512..=64 << 20).contains(&granularity) {
            return Err("a bit stands for a power of two from 512 bytes to 64 MiB".to_owned());
        }
        if disk.size() / u64::from(granularity) > MOST_BITS {
            return Err(
                "a bit for so few bytes of so large a disk; give a larger --granularity".into()
            );
        }
        if self.0.borrow().len() >= MOST {
            return Err(format!("the disk has {MOST} bitmaps already"));
        }
        let bitmap = Rc::new(Bitmap::new(disk.size(), granularity.into()));
        bitmap.enable(!disabled);
        let _attached = disk.attach(Watcher::Bitmap(Rc::clone(&bitmap))).await;
        let in_image = matches!(disk.top(), Layer::Qcow2(image) if image.bitmap(&name).is_ok());
        if in_image || self.find(&name).is_some() {
            return Err(format!("there is a bitmap '{name}' already"));
        }
        self.0.borrow_mut().push(Kept { name, bitmap, _attached });
        Ok(())
    }
}
