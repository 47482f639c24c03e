//! Dirty bitmaps that users keep on a disk, by name. They live in this process and die with it.

use std::cell::RefCell;
use std::rc::Rc;

use bulkhead_protocol::block_control::{BitmapAction, BitmapState};

use crate::disk::{Attached, Bitmap, Disk, Watcher};
use crate::node::Served;

/// Bytes of a bit, unless the user says otherwise.
const GRANULARITY: u32 = 64 << 10;

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

    /// As they are now.
    pub fn states(&self) -> Vec<BitmapState> {
        let state = |kept: &Kept| BitmapState {
            name: kept.name.clone(),
            granularity: kept.bitmap.granularity() as u32,
            dirty: kept.bitmap.dirty_bytes(),
            recording: kept.bitmap.is_enabled(),
            persistent: false,
        };
        self.0.borrow().iter().map(state).collect()
    }

    /// Does something about one of them.
    pub async fn act(
        &self,
        disk: &Rc<Disk<Served>>,
        name: String,
        action: BitmapAction,
    ) -> Result<(), String> {
        let missing = |name: &str| format!("there is no bitmap {name}");
        match action {
            BitmapAction::Add { granularity, persistent, disabled } => {
                self.add(disk, name, granularity, persistent, disabled).await
            }
            BitmapAction::Remove => {
                let at = self.0.borrow().iter().position(|kept| kept.name == name);
                drop(self.0.borrow_mut().remove(at.ok_or_else(|| missing(&name))?));
                Ok(())
            }
            BitmapAction::Clear => {
                self.find(&name).ok_or_else(|| missing(&name))?.clear_all();
                Ok(())
            }
            BitmapAction::Enable | BitmapAction::Disable => {
                let bitmap = self.find(&name).ok_or_else(|| missing(&name))?;
                bitmap.enable(action == BitmapAction::Enable);
                Ok(())
            }
            BitmapAction::Merge(others) => {
                let into = self.find(&name).ok_or_else(|| missing(&name))?;
                let found = |other: &String| self.find(other).ok_or_else(|| missing(other));
                let others = others.iter().map(found).collect::<Result<Vec<_>, _>>()?;
                others.iter().for_each(|other| into.merge(other));
                Ok(())
            }
        }
    }

    async fn add(
        &self,
        disk: &Rc<Disk<Served>>,
        name: String,
        granularity: u32,
        persistent: bool,
        disabled: bool,
    ) -> Result<(), String> {
        if persistent {
            return Err("bitmaps of a disk that is served are not kept in its image".to_owned());
        }
        let granularity = if granularity == 0 { GRANULARITY } else { granularity };
        if !granularity.is_power_of_two() || !(512..=64 << 20).contains(&granularity) {
            return Err("a bit stands for a power of two from 512 bytes to 64 MiB".to_owned());
        }
        if self.0.borrow().len() >= MOST {
            return Err(format!("the disk has {MOST} bitmaps already"));
        }
        let bitmap = Rc::new(Bitmap::new(disk.size(), granularity.into()));
        bitmap.enable(!disabled);
        let _attached = disk.attach(Watcher::Bitmap(Rc::clone(&bitmap))).await;
        if self.find(&name).is_some() {
            return Err(format!("there is a bitmap {name} already"));
        }
        self.0.borrow_mut().push(Kept { name, bitmap, _attached });
        Ok(())
    }
}
