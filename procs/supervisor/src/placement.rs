//! Which CPU each process runs on.
//!
//! Called once by the plan. A disk's two processes hand every request over to each other: on one CPU
//! that costs a context switch, on two a wake-up that is ten times as long. So both get the same CPU,
//! which is no vCPU's as long as another is free, within the mask that was inherited. A disk with
//! several queues serves queue i on the ith CPU it may use.
//!
//! Law: `cpu=` wins, but a CPU outside the inherited mask is refused by the plan, not here.
//!
//! Absent on purpose: any look at the host's load. Where many VMs share a host, each is given a mask.

/// CPUs of one disk, each process' thread of queue i on the ith.
pub type QueueCpus = Vec<u32>;

/// Where the processes of a VM or storage instance run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// CPUs that core may use; empty: all of the mask.
    pub core: Vec<u32>,
    /// For each disk, one CPU for each queue.
    pub disks: Vec<QueueCpus>,
}

/// What a disk asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Queues.
    pub queues: u16,
    /// The user's `cpu=`.
    pub cpu: Option<u32>,
}

/// Places the processes on `mask` (ascending, not empty). `vcpus` is 0 for storage. `turn` varies
/// from instance to instance, so that neighbours with the same mask do not meet on one CPU.
pub fn place(mask: &[u32], vcpus: u32, disks: &[Wish], turn: u32) -> Placement {
    let turned = rotate(mask, if vcpus == 0 { 0 } else { turn });
    let free = mask.len().saturating_sub(vcpus as usize);
    let (service, rest) = match free {
        0 => (&turned[..], &turned[..0]),
        free => turned.split_at(free),
    };
    let disks: Vec<QueueCpus> = disks
        .iter()
        .enumerate()
        .map(|(index, wish)| queue_cpus(mask, service, index, *wish))
        .collect();
    Placement { core: core_cpus(mask, rest, &disks), disks }
}

fn rotate(mask: &[u32], turn: u32) -> Vec<u32> {
    let mut turned = mask.to_vec();
    if !turned.is_empty() {
        let by = turn as usize % turned.len();
        turned.rotate_left(by);
    }
    turned
}

fn queue_cpus(mask: &[u32], service: &[u32], index: usize, wish: Wish) -> QueueCpus {
    let queues = usize::from(wish.queues);
    match (wish.cpu, queues) {
        (Some(cpu), _) => vec![cpu; queues],
        (None, 1) => vec![service[index % service.len()]],
        (None, _) => (0..queues).map(|queue| mask[queue % mask.len()]).collect(),
    }
}

/// Core keeps off the CPUs of single-queue disks, as long as it has one for each vCPU (`rest`).
fn core_cpus(mask: &[u32], rest: &[u32], disks: &[QueueCpus]) -> Vec<u32> {
    if rest.is_empty() || disks.is_empty() {
        return Vec::new();
    }
    let served = |cpu: &u32| disks.iter().any(|cpus| cpus.len() == 1 && cpus[0] == *cpu);
    let left: Vec<u32> = mask.iter().copied().filter(|cpu| !served(cpu)).collect();
    if left.len() < rest.len() || left.len() == mask.len() {
        return Vec::new();
    }
    left
}

#[cfg(test)]
mod tests;
