//! Exports for vhost-user frontends that come and go while their disk is served.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_crash::image::Image;
use bulkhead_harness::block::Block;
use bulkhead_harness::frontend::{Frontend, Layout, Queue, Request};
use bulkhead_harness::storage::{Options, Storage};
use nix::sys::signal::Signal;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);

fn one(queue: &mut Queue, request: Request<'_>) -> Vec<u8> {
    let slot = queue.submit(request, &Layout::PLAIN).expect("room");
    queue.kick();
    let done = queue.wait(SOON).expect("a device that keeps the rules").expect("an answer");
    assert!(done.slot == slot && done.is_ok(), "{done:?}");
    let mut data = vec![0; 4096];
    queue.read_data(slot, &mut data).expect("its data");
    data
}

struct Scene {
    storage: Storage,
    folder: TempDir,
    _image: Image,
}

impl Scene {
    fn begin() -> Self {
        let image = Image::in_memory(256);
        let storage = Storage::start(&Options::new(image.path(), 1));
        Self { storage, folder: TempDir::new().expect("a folder"), _image: image }
    }

    fn block(&self) -> Block {
        Block::of(self.storage.name())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("added")
    }

    /// Adds it; what is still busy with its predecessor is asked again.
    fn add(&self, keys: &str) -> Result<String, String> {
        let export = format!("vhost-user-blk,disk=d0,socket={}{keys}", self.socket().display());
        loop {
            match self.block().run(&["export", "add"], &[&export]) {
                Err(complaint) if complaint.contains("holds its place") => {}
                other => return other,
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn remove(&self, more: &[&str]) -> Result<String, String> {
        let arguments = [&["d0-vhost-user-blk"], more].concat();
        self.block().run(&["export", "remove"], &arguments)
    }
}

#[test]
fn an_export_is_removed_and_another_one_added_with_other_queues() {
    let scene = Scene::begin();
    let (first, mut queues) = Frontend::connect(scene.storage.socket(), 1, 4).expect("a frontend");
    let data = [7; 4096];
    one(&mut queues[0], Request::Write { sector: 8, data: &data });
    let complaint = scene.remove(&[]).expect_err("a frontend is there");
    assert!(complaint.contains("a frontend is connected"), "{complaint}");
    let complaint = scene.add("").expect_err("there is one");
    assert!(complaint.contains("already"), "{complaint}");
    scene.remove(&["--force"]).expect("its end");
    assert!(!scene.storage.socket().exists(), "the socket is left");
    assert!(first.is_hung_up());
    drop((first, queues));
    assert_eq!(scene.block().run(&["export", "list"], &[]).expect("a list"), "");
    for round in 0..6u8 {
        let added = scene.add(",queues=3").expect("an export");
        assert_eq!(added.trim(), "d0-vhost-user-blk");
        assert!(scene.block().run(&["export", "list"], &[]).expect("a list").contains("d0-vhost"));
        let (frontend, mut queues) = Frontend::connect(&scene.socket(), 3, 4).expect("a frontend");
        assert_eq!(queues.len(), 3);
        let read = Request::Read { sector: 8, len: 4096 };
        let written = [round + 8; 4096];
        for (number, queue) in queues.iter_mut().enumerate() {
            assert_eq!(one(queue, read)[0], round + 7);
            let sector = 64 + 8 * number as u64;
            one(queue, Request::Write { sector, data: &written });
            one(queue, Request::Flush);
        }
        // It is a consumer like any other: both die, and nobody sees more than a pause.
        if round % 2 == 0 {
            scene.storage.process("block-layer").signal(Signal::SIGKILL);
        }
        one(&mut queues[1], Request::Write { sector: 8, data: &written });
        assert_eq!(one(&mut queues[2], read)[0], round + 8);
        drop((frontend, queues));
        while scene.remove(&[]).is_err() {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(!scene.socket().exists(), "the socket is left");
    }
}

#[test]
fn an_added_export_takes_the_next_frontend_after_its_process_died() {
    let scene = Scene::begin();
    scene.remove(&[]).expect("its end");
    scene.add("").expect("an export");
    for round in 0..5u8 {
        let (frontend, mut queues) = Frontend::connect(&scene.socket(), 1, 4).expect("a frontend");
        let data = [round; 4096];
        one(&mut queues[0], Request::Write { sector: 0, data: &data });
        scene.storage.process("vhost-blk").signal(Signal::SIGKILL);
        drop((frontend, queues));
    }
    scene.remove(&["--force"]).expect("its end");
    let (complaint, path) = (scene.block(), Path::new("/no/such/folder/socket").display());
    let export = format!("vhost-user-blk,disk=d0,socket={path}");
    let complaint = complaint.run(&["export", "add"], &[&export]).expect_err("no such folder");
    assert!(complaint.contains("/no/such/folder"), "{complaint}");
    // A process that dies while it joins is replaced, or its export is refused; either way there is one or none.
    scene.add(",readonly").expect("an export");
    let (_frontend, mut queues) = Frontend::connect(&scene.socket(), 1, 4).expect("a frontend");
    assert_eq!(one(&mut queues[0], Request::Read { sector: 0, len: 4096 })[0], 4);
}
