//! The race: the chain changes again and again under a guest that does not stop.

use std::rc::Rc;

use super::rig::*;
use crate::disk::Change;
use crate::job::*;
use crate::task::yield_now;

/// Rounds with the other tests; `BULKHEAD_RACES` sets another number.
const FEW: u64 = 16;

fn rounds() -> u64 {
    let given = std::env::var("BULKHEAD_RACES").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(FEW)
}

/// What an operator does besides waiting.
async fn meddle(control: &Control, chance: &Chance) {
    let force = chance.below(2) == 0;
    let cancels = chance.below(6) == 0;
    loop {
        let state = control.status().state;
        match (state, chance.below(40)) {
            (JobState::Concluded, _) => return,
            (_, 0) => control.pause(),
            (_, 1..4) => control.resume(),
            (_, 4) => control.set_speed([0, 1 << 20][chance.below(2) as usize]),
            (_, 5) if cancels => control.cancel(force),
            (JobState::Ready, 6..20) => drop(control.complete()),
            (JobState::Paused | JobState::Standby, _) => control.resume(),
            _ => {}
        }
        yield_now().await;
    }
}

/// An operator with a disk.
#[derive(Clone)]
struct Operator {
    disk: Rc<crate::disk::Disk<crate::storage::memory::MemoryFile>>,
    supervisor: Supervisor,
    clock: Rc<Hands>,
    chance: Chance,
}

impl Operator {
    async fn run(&self, job: Job<crate::storage::memory::MemoryFile>) -> Result<(), Ended> {
        let clock = Rc::clone(&self.clock) as Rc<dyn crate::clock::Clock>;
        let control = Control::new(job.kind(), Settings::default(), clock);
        let ended = both(job.run(&control, &self.supervisor), meddle(&control, &self.chance)).await;
        assert!(matches!(ended, Ok(()) | Err(Ended::Cancelled)), "{ended:?}");
        ended
    }

    async fn snapshot(&self) {
        let cluster = [512, 4096, 65536][self.chance.below(3) as usize];
        let link = qcow2(cluster, true, SIZE);
        let drained = self.disk.drain().await;
        let old = self.disk.top();
        old.close().await.unwrap();
        let layer = open(&link, Some(old));
        link.file.interleave(2, self.chance.below(u64::MAX));
        self.supervisor.registry.add(&layer, link);
        let change = Change::Push(layer);
        self.supervisor.switch(&change).await.unwrap();
        self.disk.apply(&change, &drained);
    }

    async fn commit_active(&self) {
        let top = self.disk.top();
        let depth = top.chain().count() as u64;
        if depth < 2 {
            return;
        }
        let base = top.chain().nth(1 + self.chance.below(depth - 1) as usize).unwrap();
        let disk = Rc::clone(&self.disk);
        let _either =
            self.run(Job::Commit(Commit { disk, top, base, name: None, header: None })).await;
    }

    async fn commit_below(&self) {
        let chain: Vec<_> = self.disk.top().chain().collect();
        if chain.len() < 3 {
            return;
        }
        let (top, base) = (chain[1].clone(), chain[chain.len() - 1].clone());
        let disk = Rc::clone(&self.disk);
        let _either =
            self.run(Job::Commit(Commit { disk, top, base, name: None, header: None })).await;
    }

    async fn stream(&self) {
        let into = self.disk.top();
        if into.backing().is_none() {
            return;
        }
        let disk = Rc::clone(&self.disk);
        let _either = self.run(Job::Stream(Stream { disk, into, base: None, name: None })).await;
    }

    async fn mirror(&self) {
        let link = match self.chance.below(2) {
            0 => raw(vec![0xEE; SIZE as usize]),
            _ => qcow2(65536, false, SIZE),
        };
        link.file.interleave(2, self.chance.below(u64::MAX));
        let target = open(&link, None);
        self.supervisor.registry.add(&target, link);
        let mode = match self.chance.below(2) {
            0 => CopyMode::Background,
            _ => CopyMode::WriteBlocking,
        };
        let mirror = Mirror {
            disk: Rc::clone(&self.disk),
            target,
            sync: Sync::Full,
            mode,
            granularity: None,
            target_is_zero: false,
        };
        let _either = self.run(Job::Mirror(mirror)).await;
    }

    /// A backup while something else goes on.
    async fn backup_beside(&self, other: impl Future<Output = ()>) {
        let target = open(&raw(vec![0; SIZE as usize]), None);
        let disk = Rc::clone(&self.disk);
        let backup = Backup { disk, target, extent: Extent::Full };
        both(self.run(Job::Backup(backup)), other).await.ok();
    }
}

#[test]
fn the_chain_changes_under_load_and_no_request_notices() {
    for round in 0..rounds() {
        let mut rig = Rig::usual(2, round);
        rig.guest(5, 150);
        let operator = Operator {
            disk: Rc::clone(&rig.disk),
            supervisor: rig.supervisor.clone(),
            clock: Rc::clone(&rig.clock),
            chance: rig.chance.clone(),
        };
        rig.tasks.spawn(async move {
            for _ in 0..3 {
                operator.snapshot().await;
                match operator.chance.below(3) {
                    0 => operator.commit_active().await,
                    1 => operator.commit_below().await,
                    _ => operator.stream().await,
                }
                let (other, backs_up) = (operator.clone(), operator.chance.below(3) == 0);
                let mirror = async move { other.mirror().await };
                if backs_up { operator.backup_beside(mirror).await } else { mirror.await }
            }
        });
        rig.run();
        rig.verify(&format!("round {round}"));
    }
}
