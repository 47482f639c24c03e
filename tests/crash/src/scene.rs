//! A scene: an instance, a frontend that reconnects, two drivers, and something that happens.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bulkhead_harness::frontend::Frontend;
use bulkhead_harness::storage::{Options, Storage};

use crate::driver::{Driver, Shared};
use crate::image::Image;
use crate::ledger::{Fault, Ledger};
use crate::neighbour::Neighbour;

/// Queues of every scene.
pub const QUEUES: u16 = 2;

/// Requests in flight of each.
pub const DEPTH: u16 = 16;

/// Blocks of each queue: so few that each is written often, so many that some rest.
const BLOCKS: u64 = 64;

/// Blocks of an image: each queue's, and an NBD client's behind them.
pub const IMAGE_BLOCKS: u64 = BLOCKS * (QUEUES as u64 + 1);

/// Between two times that a restless frontend resets its queues or connects anew, at most.
const REST: Duration = Duration::from_millis(40);

/// What is played.
#[derive(Debug)]
pub struct Scene {
    image: Image,
    storage: Storage,
    shared: Arc<Shared>,
    drivers: Vec<JoinHandle<Result<Ledger, Fault>>>,
    hanging_up: Arc<AtomicBool>,
    keeper: JoinHandle<()>,
}

impl Scene {
    /// Starts the instance with more keys for `--disk`, and the load.
    pub fn begin(image: Image, disk: &str) -> Self {
        Self::play(image, disk, false)
    }

    /// The same; besides an NBD client works on the disk, and the frontend resets its queues and connects
    /// anew again and again.
    pub fn begin_crowded(image: Image, disk: &str) -> Self {
        Self::play(image, disk, true)
    }

    fn play(image: Image, disk: &str, crowded: bool) -> Self {
        let disk = format!("{disk}{}", image.keys());
        let options = Options::new(image.path(), QUEUES).disk(&disk);
        let storage = Storage::start(&if crowded { options.nbd() } else { options });
        let shared = Arc::new(Shared::default());
        let connected = Frontend::connect(storage.socket(), QUEUES, DEPTH);
        let (frontend, queues) = connected.expect("the frontend connects");
        assert!(frontend.has_inflight(), "the backend keeps no in-flight table");
        let hanging_up = Arc::new(AtomicBool::new(false));
        let keeper =
            keep_connected(frontend, crowded, Arc::clone(&hanging_up), Arc::clone(&shared));
        let drivers = queues.into_iter().zip(0..).map(|(queue, first)| {
            let ledger = Ledger::new(first, u64::from(QUEUES), BLOCKS as usize);
            let driver = Driver::new(queue, ledger, DEPTH, Arc::clone(&shared), first + 77);
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let result = driver.run();
                // One driver's fault ends the scene for all.
                shared.stop.store(true, Ordering::Relaxed);
                result
            })
        });
        let mut drivers: Vec<_> = drivers.collect();
        if crowded {
            let ledger = Ledger::new(BLOCKS * u64::from(QUEUES), 1, BLOCKS as usize);
            let socket = storage.nbd_socket();
            let neighbour = Neighbour::connect(&socket, ledger, Arc::clone(&shared));
            let neighbour = neighbour.expect("the NBD client connects");
            let shared = Arc::clone(&shared);
            drivers.push(thread::spawn(move || {
                let result = neighbour.run();
                shared.stop.store(true, Ordering::Relaxed);
                result
            }));
        }
        Self { image, storage, shared, drivers, hanging_up, keeper }
    }

    /// The instance.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// What the drivers share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The image's path.
    pub fn image(&self) -> &Path {
        self.image.path()
    }

    /// Ends the load, reads everything by the disk, ends the instance, reads everything on the host.
    /// Waits `settle` before the last look, for whatever might still land.
    pub fn end(self, settle: Duration) {
        self.end_on(settle, Image::judge);
    }

    /// The same, with another way to look at the host.
    pub fn end_on(self, settle: Duration, judge: impl Fn(&Image, &Ledger) -> Result<(), Fault>) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let ledgers: Vec<Ledger> = self
            .drivers
            .into_iter()
            .map(|driver| match driver.join().expect("a driver") {
                Ok(ledger) => ledger,
                Err(fault) => panic!("{fault}"),
            })
            .collect();
        self.hanging_up.store(true, Ordering::Relaxed);
        self.keeper.join().expect("the frontend stays connected");
        thread::sleep(settle);
        assert!(self.storage.end().success(), "bulkhead storage did not end well");
        for ledger in &ledgers {
            if let Err(fault) = judge(&self.image, ledger) {
                panic!("on the host: {fault}");
            }
        }
    }
}

/// Reconnects whenever the backend hangs up, as a monitor does. A restless one also stops its queues and
/// starts them again, as a reset does, and connects anew without need.
fn keep_connected(
    mut frontend: Frontend,
    restless: bool,
    hanging_up: Arc<AtomicBool>,
    shared: Arc<Shared>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let (mut turn, mut rested) = (0_u32, Instant::now());
        while !hanging_up.load(Ordering::Relaxed) {
            if restless && rested.elapsed() > REST * (turn * 7 % 11) / 11 {
                turn += 1;
                // Whether that fails or not: one without a backend connects anew below.
                let _done = match turn % 3 {
                    0 => frontend.hang_up(),
                    _ => frontend.stop().and_then(|bases| frontend.resume(&bases)),
                };
                rested = Instant::now();
            }
            if frontend.is_hung_up()
                && let Err(error) = frontend.reconnect()
            {
                shared.stop.store(true, Ordering::Relaxed);
                panic!("the frontend cannot reconnect: {error}");
            }
            thread::sleep(Duration::from_micros(300));
        }
    })
}
