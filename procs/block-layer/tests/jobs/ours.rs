//! Our jobs, over plain files.

use std::fs::File;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bulkhead_block_layer::clock::Clock;
use bulkhead_block_layer::disk::{Change, Disk};
use bulkhead_block_layer::job::{
    BackingName, Backup, Commit, Control, CopyMode, Extent, Host, Job, JobState, Mirror, Settings,
    Stream, Sync,
};
use bulkhead_block_layer::outcome::Outcome;
use bulkhead_block_layer::qcow2::journal::Nothing;
use bulkhead_block_layer::qcow2::{Files, Layer, Options, Qcow2};
use bulkhead_block_layer::storage::Plain;
use bulkhead_block_layer::task::finish;

use crate::images::{Folder, Kind, SIZE};

/// Nothing here waits for a time.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn wake_at(&self, _: Duration, _: Waker) {}
}

struct Nobody;

impl Host<Plain> for Nobody {
    async fn switch(&self, _: &Change<Plain>) -> Outcome {
        Ok(())
    }
}

fn open(folder: &Folder, name: &str, format: &str, backing: Option<Layer<Plain>>) -> Layer<Plain> {
    let file = File::options().read(true).write(true).open(folder.file(name)).unwrap();
    let file = Plain::new(file.into(), true).unwrap();
    if format == "raw" {
        return Layer::raw(file, SIZE);
    }
    let files = Files { file, data: None, backing };
    finish(Qcow2::open(files, Box::new(Nothing), Options::WRITE)).unwrap().into()
}

/// Bytes done and bytes to do when the job was ready or over.
pub fn run(folder: &Folder, kind: Kind) -> (u64, u64) {
    let base = open(folder, "base", folder.base_format, None);
    let mid = open(folder, "mid", "qcow2", Some(base.clone()));
    let top = open(folder, "top", "qcow2", Some(mid.clone()));
    let clock = Rc::new(Still) as Rc<dyn Clock>;
    let disk = Rc::new(Disk::new(top.clone(), Rc::clone(&clock)));
    let name = BackingName { name: "base".into(), format: folder.base_format.into() };
    let target = kind.target().map(|format| open(folder, "target", format, None));
    let given = Rc::clone(&disk);
    let job = match (kind, target.clone()) {
        (Kind::Stream, _) => Job::Stream(Stream { disk: given, into: top, base: None, name: None }),
        (Kind::StreamBase, _) => {
            let base = Some(base.clone());
            Job::Stream(Stream { disk: given, into: top, base, name: Some(name) })
        }
        (Kind::Commit, _) => Job::Commit(Commit {
            disk: given,
            top: mid,
            base: base.clone(),
            name: Some(name),
            header: None,
        }),
        (Kind::MirrorRaw | Kind::MirrorQcow2, Some(target)) => Job::Mirror(Mirror {
            disk: given,
            target,
            sync: Sync::Full,
            mode: CopyMode::Background,
            granularity: None,
            target_is_zero: true,
        }),
        (Kind::Backup | Kind::BackupTop, Some(target)) => {
            let extent = if kind == Kind::Backup { Extent::Full } else { Extent::Top };
            Job::Backup(Backup { disk: given, target, extent })
        }
        _ => Job::Commit(Commit { disk: given, top, base: base.clone(), name: None, header: None }),
    };
    let control = Control::new(job.kind(), Settings::default(), clock);
    let mut ready = None;
    finish(async {
        let mut job = pin!(job.run(&control, &Nobody));
        std::future::poll_fn(|context| {
            let over = job.as_mut().poll(context);
            let status = control.status();
            if status.state == JobState::Ready && ready.is_none() {
                ready = Some((status.offset, status.len));
                control.complete();
            }
            match over {
                Poll::Ready(ended) => {
                    ended.unwrap();
                    Poll::Ready(())
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
    });
    let top = disk.top();
    let layers = top.chain().chain([base]).chain(target);
    for layer in layers {
        finish(layer.close()).unwrap();
    }
    let status = control.status();
    ready.unwrap_or((status.offset, status.len))
}
