//! `dd`: a part of a disk into a fresh image.

use anyhow::Result;
use bulkhead_block_layer::qcow2::Options;
use bulkhead_protocol::tool::{NewImage, PlannedDisk};

use super::copy::{Copy, SPARSE};
use super::create::Target;
use super::disk;
use super::files::Files;
use super::joined::Joined;
use super::report::Report;

/// Copies at most `count` bytes from `skip` on.
pub fn run(
    source: &PlannedDisk,
    target: NewImage,
    skip: u64,
    count: u64,
    files: &mut Files,
    report: &Report,
) -> Result<()> {
    let source = Joined::new(vec![disk::open(source, Options::READ, files)?]);
    let begin = skip.min(source.size());
    let len = (source.size() - begin).min(count);
    let image = NewImage { size: len.next_multiple_of(512), ..target };
    let target = Target::take(&image, files)?;
    let used = target.is_used();
    let target = target.fill(&image, report)?;
    let copy = Copy { source: &source, begin, len, target: &target, sparse: SPARSE, used };
    copy.all(&mut |done| report.progress(done, len))?;
    Ok(target.finish()?)
}
