//! What a process holds: descriptors and memory, before and after an attack.

/// A look at this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Open descriptors.
    pub descriptors: usize,
    /// Resident bytes.
    pub resident: u64,
}

impl Footprint {
    /// How it stands now.
    pub fn now() -> Self {
        let descriptors = std::fs::read_dir("/proc/self/fd").expect("proc is there").count();
        let status = std::fs::read_to_string("/proc/self/status").expect("proc is there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Self { descriptors, resident: kibibytes.expect("a size in KiB") * 1024 }
    }

    /// Asserts that an attack since then has cost nothing but a little memory.
    pub fn assert_unchanged(self, most_growth: u64) {
        let after = Self::now();
        assert_eq!(after.descriptors, self.descriptors, "descriptors were left open or closed");
        let growth = after.resident.saturating_sub(self.resident);
        assert!(growth < most_growth, "{growth} bytes more than before");
    }
}
