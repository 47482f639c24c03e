//! `amend`: other options of an image that is there.

use anyhow::{Result, bail};
use bulkhead_block_layer::qcow2::amend::Change;
use bulkhead_block_layer::qcow2::{Options, Qcow2};
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::tool::{Amendment, PlannedDisk};

use super::disk::{Disk, Parts, shut_after};
use super::files::{Files, blame};
use super::store::Store;

/// Each change opens the image anew.
pub fn run(plan: &PlannedDisk, amendments: Vec<Amendment>, files: &mut Files) -> Result<()> {
    let parts = Parts::take(plan, files)?;
    for amendment in amendments {
        let how = Options { alone: true, discard: false, ..Options::WRITE };
        let Disk::Qcow2(image) = parts.again().disk(how)? else {
            return Err(blame(0, "a raw image has no options"));
        };
        // Nobody else has it.
        let Some(image) = std::rc::Rc::into_inner(image) else {
            bail!("the image is in use");
        };
        make(image, amendment)?;
    }
    Ok(())
}

fn make(image: Qcow2<Store>, amendment: Amendment) -> Result<()> {
    let change = match amendment {
        Amendment::Version(2) => Change::Downgrade,
        Amendment::Version(_) => Change::Upgrade,
        Amendment::LazyRefcounts(on) => Change::LazyRefcounts(on),
        Amendment::RefcountBits(bits) => Change::RefcountBits(bits),
        Amendment::Size(size) => {
            return shut_after(&image, || Ok(finish(image.resize(size.next_multiple_of(512)))?));
        }
        Amendment::Backing { name, format } => return rename(&image, name, format),
    };
    Ok(finish(image.amend(change))?)
}

fn rename(image: &Qcow2<Store>, name: Option<String>, format: Option<String>) -> Result<()> {
    let header = image.header();
    let name = name.or(header.backing).unwrap_or_default();
    let format = format.or(header.extensions.backing_format);
    shut_after(image, || match (name.is_empty(), &format) {
        (true, _) => Ok(finish(image.name_backing(None))?),
        (false, Some(format)) => Ok(finish(image.name_backing(Some((&name, format))))?),
        (false, None) => bail!("a backing file needs its format; add backing_fmt=FORMAT"),
    })
}
