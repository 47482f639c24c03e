//! A disk as one frontend sees it, page by page: for tests that say what must be in it, where a scene only says
//! what was written last.

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bulkhead_harness::block::Block;
use bulkhead_harness::frontend::{Frontend, Layout, Queue, Request};
use bulkhead_harness::storage::{Options, Storage};

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// How long a request may take: far longer than the replacement of a block layer.
const SOON: Duration = Duration::from_secs(60);

/// QEMU finds neither an error nor a leak in a qcow2 image that nobody uses.
pub fn check(image: &Path) {
    let output = Command::new("qemu-img").args(["check", "-f", "qcow2"]).arg(image).output();
    let output = output.expect("qemu-img starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// See the module. It is ended on drop.
pub struct Pages {
    storage: Storage,
    _frontend: Frontend,
    queue: Queue,
}

impl Pages {
    /// Serves an image by `bulkhead storage`, and connects. Further keys of `--disk`, each with a comma in front.
    pub fn serve(image: &Path, keys: &str) -> Self {
        let storage = Storage::start(&Options::new(image, 1).disk(keys));
        let (frontend, queues) = Frontend::connect(storage.socket(), 1, 16).expect("a frontend");
        let queue = queues.into_iter().next().expect("a queue");
        Self { storage, _frontend: frontend, queue }
    }

    /// What serves it.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The commands for it.
    pub fn block(&self) -> Block {
        Block::of(self.storage.name())
    }

    /// Writes pages full of one byte.
    pub fn fill(&mut self, pages: Range<u64>, byte: u8) {
        let data = vec![byte; PAGE as usize];
        for page in pages {
            self.ask(Request::Write { sector: page * PAGE / 512, data: &data });
        }
    }

    /// What was written is on stable storage.
    pub fn flush(&mut self) {
        self.ask(Request::Flush);
    }

    /// Reads pages that must be full of one byte.
    pub fn expect(&mut self, pages: Range<u64>, byte: u8) {
        for page in pages {
            let read = Request::Read { sector: page * PAGE / 512, len: PAGE as u32 };
            let slot = self.ask(read);
            let mut data = vec![!byte; PAGE as usize];
            self.queue.read_data(slot, &mut data).expect("its data");
            let wrong = data.iter().find(|found| **found != byte);
            assert_eq!(wrong, None, "page {page} is not full of {byte}");
        }
    }

    fn ask(&mut self, request: Request<'_>) -> bulkhead_harness::frontend::Slot {
        let slot = self.queue.submit(request, &Layout::PLAIN).expect("a place in the queue");
        self.queue.kick();
        let done = self.queue.wait(SOON).expect("a device that keeps the rules");
        let done = done.expect("an answer");
        assert!(done.slot == slot && done.is_ok(), "{done:?}");
        slot
    }
}
