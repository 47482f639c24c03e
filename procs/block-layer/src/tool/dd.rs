//! `dd`: a part of a disk into a fresh image.

use std::rc::Rc;

use anyhow::Result;
use bulkhead_block_layer::qcow2::Options;
use bulkhead_protocol::tool::{NewImage, PlannedDisk, USUAL_PIECES};

use super::copy::{Copy, SPARSE};
use super::course;
use super::create::Target;
use super::disk;
use super::files::Files;
use super::hands::Hands;
use super::joined::Joined;
use super::report::Report;

/// Copies at most `count` bytes from `skip` on.
pub fn run(
    source: &PlannedDisk,
    target: NewImage,
    skip: u64,
    count: u64,
    files: &mut Files,
    hands: &Hands,
    report: &Report,
) -> Result<()> {
    let source = Joined::new(vec![disk::open(source, Options::READ, files)?]);
    let begin = skip.min(source.size());
    let len = (source.size() - begin).min(count);
    let image = NewImage { size: len.next_multiple_of(512), ..target };
    let target = Target::take(&image, files)?;
    let used = target.is_used();
    let target = Rc::new(target.fill(&image, report)?);
    let (source, filled) = (Rc::new(source), Rc::clone(&target));
    let copy = Copy { source, begin, len, target: filled, sparse: SPARSE, used };
    course::run(copy, USUAL_PIECES.into(), true, hands, |done| report.progress(done, len))?;
    Ok(target.finish()?)
}
