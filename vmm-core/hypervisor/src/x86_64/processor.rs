//! The processor that guests see: the one table of CPUID leaves and model-specific registers.
//!
//! Every engine starts from what its host can do and passes it through [`cpuid`]; every engine saves,
//! resets and restores the registers of [`saved_msrs`]. A guest therefore finds the same processor
//! under each of them, as far as the host allows.
//!
//! Hidden on purpose: nested virtualisation, performance counters, SGX, processor trace, AMX (its
//! registers do not fit 4 KiB of XSAVE), memory encryption, MONITOR/MWAIT. A guest that does not see
//! them cannot use them against us, and state that is not there need not be saved.

use kvm_bindings::{kvm_cpuid_entry2, kvm_msr_entry};

/// Which of the machine's processors this is: one socket, a core each, one thread a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the vCPU, and its local APIC's id.
    pub index: u8,
    /// How many there are.
    pub count: u8,
}

impl Place {
    /// Bits of an APIC id that number the cores.
    fn core_bits(self) -> u32 {
        u32::from(self.count).next_power_of_two().trailing_zeros()
    }

    /// How many APIC ids those bits make.
    fn ids(self) -> u32 {
        1 << self.core_bits()
    }
}

/// XSAVE components that may be shown: x87, SSE, AVX, AVX-512 (three) and protection keys.
const XSAVE_COMPONENTS: u32 = 0b10_1110_0111;

/// Feature leaves, register by register: `(leaf, sub-leaf, register, cleared, set)`.
const FEATURES: &[(u32, u32, Register, u32, u32)] = &[
    // Cleared: MONITOR, VMX, PDCM. Set: x2APIC, TSC deadline timer (ours to announce, the kernel has it),
    // hypervisor present.
    (0x1, 0, Register::Ecx, bit(3) | bit(5) | bit(15), bit(21) | bit(24) | bit(31)),
    // Of thermal and power management only "APIC timer always runs".
    (0x6, 0, Register::Eax, !bit(2), bit(2)),
    (0x6, 0, Register::Ecx, !0, 0),
    // SGX. The rest of leaf 7: WAITPKG, SGX_LC; AMX in three bits.
    (0x7, 0, Register::Ebx, bit(2), 0),
    (0x7, 0, Register::Ecx, bit(5) | bit(30), 0),
    (0x7, 0, Register::Edx, bit(22) | bit(24) | bit(25), 0),
    // AMX's later additions.
    (0x7, 1, Register::Eax, bit(21), 0),
    (0x7, 1, Register::Edx, bit(8), 0),
    (0xd, 0, Register::Eax, !XSAVE_COMPONENTS, 0),
    (0xd, 0, Register::Edx, !0, 0),
    // XFD, which only AMX needs.
    (0xd, 1, Register::Eax, bit(4), 0),
    // SVM.
    (0x8000_0001, 0, Register::Ecx, bit(2), 0),
];

/// Leaves that read as zero: performance counters, SGX, processor trace, AMX tiles, SVM, memory
/// encryption, AMD's second performance leaf, Intel's second topology leaf (0xb says the same).
const ABSENT: &[u32] =
    &[0xa, 0x12, 0x14, 0x1d, 0x1e, 0x1f, 0x23, 0x24, 0x8000_000a, 0x8000_001f, 0x8000_0022];

/// Leaves that tell of caches, one sub-leaf each, in the form of Intel's leaf 4.
const CACHE_LEAVES: &[u32] = &[0x4, 0x8000_001d];

/// The four registers of a CPUID leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

const fn bit(number: u32) -> u32 {
    1 << number
}

/// The leaves of the vCPU at `place`, made from what the host supports.
pub fn cpuid(supported: &[kvm_cpuid_entry2], place: Place) -> Vec<kvm_cpuid_entry2> {
    let kept = supported.iter().filter(|entry| is_kept(entry));
    let mut leaves: Vec<_> = kept.copied().collect();
    leaves.extend(topology(place));
    for leaf in &mut leaves {
        apply_features(leaf);
        apply_place(leaf, place);
    }
    shrink_xsave(&mut leaves);
    leaves
}

fn is_kept(entry: &kvm_cpuid_entry2) -> bool {
    let tiles = entry.function == 0xd
        && entry.index >= 2
        && entry.index < 32
        && XSAVE_COMPONENTS & bit(entry.index) == 0;
    entry.function != 0xb && !ABSENT.contains(&entry.function) && !tiles
}

/// Leaf 0xb: one level of threads (one each), one of cores.
fn topology(place: Place) -> [kvm_cpuid_entry2; 3] {
    const SIGNIFICANT_INDEX: u32 = 1;
    let level = |index, shift, count, kind: u32| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: SIGNIFICANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: kind << 8 | index,
        edx: u32::from(place.index),
        ..Default::default()
    };
    [level(0, 0, 1, 1), level(1, place.core_bits(), u32::from(place.count), 2), level(2, 0, 0, 0)]
}

fn apply_features(leaf: &mut kvm_cpuid_entry2) {
    for (function, index, register, cleared, set) in FEATURES {
        if (*function, *index) == (leaf.function, leaf.index) {
            let value = match register {
                Register::Eax => &mut leaf.eax,
                Register::Ebx => &mut leaf.ebx,
                Register::Ecx => &mut leaf.ecx,
                Register::Edx => &mut leaf.edx,
            };
            *value = *value & !cleared | set;
        }
    }
}

/// What differs from vCPU to vCPU, or depends on how many there are.
fn apply_place(leaf: &mut kvm_cpuid_entry2, place: Place) {
    let (index, count) = (u32::from(place.index), u32::from(place.count));
    let several = count > 1;
    match leaf.function {
        0x1 => {
            // APIC id, APIC ids in the package, and whether that number means anything (HTT).
            leaf.ebx = leaf.ebx & 0x0000_ffff | index << 24 | place.ids() << 16;
            leaf.edx = leaf.edx & !bit(28) | u32::from(several) << 28;
        }
        leaf_number if CACHE_LEAVES.contains(&leaf_number) => share_cache(leaf, place),
        // AMD: "legacy" way of saying that there are several cores.
        0x8000_0001 if several => leaf.ecx |= bit(1),
        0x8000_0001 => leaf.ecx &= !bit(1),
        // AMD: bits of the core number in an APIC id, cores less one. Reserved on Intel.
        0x8000_0008 if several => {
            leaf.ecx = leaf.ecx & !0xf0ff | place.core_bits() << 12 | (count - 1)
        }
        0x8000_0008 => leaf.ecx &= !0xf0ff,
        // AMD: APIC id, core with one thread, node 0.
        0x8000_001e => {
            leaf.eax = index;
            leaf.ebx = index;
            leaf.ecx = 0;
        }
        _ => {}
    }
}

/// First and second levels belong to one core, the third to all.
fn share_cache(leaf: &mut kvm_cpuid_entry2, place: Place) {
    let (kind, level) = (leaf.eax & 0x1f, leaf.eax >> 5 & 7);
    if kind == 0 {
        return;
    }
    let sharing = if level >= 3 { place.ids() } else { 1 };
    leaf.eax = leaf.eax & 0x3fff | (sharing - 1) << 14;
    if leaf.function == 0x4 {
        leaf.eax |= (place.ids() - 1) << 26;
    }
}

/// The XSAVE area ends behind the last component that is left.
fn shrink_xsave(leaves: &mut [kvm_cpuid_entry2]) {
    const LEGACY_AND_HEADER: u32 = 576;
    let components =
        leaves.iter().filter(|leaf| leaf.function == 0xd && leaf.index >= 2 && leaf.ecx & 1 == 0);
    let end = components.map(|leaf| leaf.ebx.saturating_add(leaf.eax)).max().unwrap_or(0);
    for leaf in leaves.iter_mut().filter(|leaf| leaf.function == 0xd && leaf.index == 0) {
        leaf.ecx = end.max(LEGACY_AND_HEADER);
    }
}

/// What is particular about a register of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Saved where KVM lists it.
    Listed,
    /// KVM has it everywhere but leaves it out of its list.
    Unlisted,
}

/// Model-specific registers that make up a vCPU's state: number, presence, and its value at power-on
/// where that is not what the engine starts with. In the order in which they are restored.
const MSRS: &[(u32, Presence, Option<u64>)] = &[
    // Time-stamp counter: zero on every vCPU tells KVM to keep them in step.
    (0x10, Presence::Listed, Some(0)),
    (0x3b, Presence::Listed, None),
    // Speculation control, as far as the host lets guests have it.
    (0x48, Presence::Listed, None),
    (0xc001_011f, Presence::Listed, None),
    // System calls.
    (0x174, Presence::Listed, None),
    (0x175, Presence::Listed, None),
    (0x176, Presence::Listed, None),
    (0xc000_0081, Presence::Listed, None),
    (0xc000_0082, Presence::Listed, None),
    (0xc000_0083, Presence::Listed, None),
    (0xc000_0084, Presence::Listed, None),
    (0xc000_0102, Presence::Listed, None),
    (0xc000_0103, Presence::Listed, None),
    // Fast string operations are on, as firmware leaves them.
    (0x1a0, Presence::Listed, Some(1)),
    // Memory types: PAT, and MTRRs on with everything write-back. Off would make Linux drop PAT too.
    (0x277, Presence::Listed, None),
    (0x2ff, Presence::Unlisted, Some(1 << 11 | 6)),
    // Supervisor XSAVE components; user wait control.
    (0xda0, Presence::Listed, None),
    // KVM's own: wall clock, system time, asynchronous page faults (three), stolen time, end of
    // interrupt, halt polling. All hold guest addresses, so a reset that forgot one would let KVM write
    // into the next kernel.
    (0x4b56_4d00, Presence::Listed, None),
    (0x4b56_4d01, Presence::Listed, None),
    (0x4b56_4d02, Presence::Listed, None),
    (0x4b56_4d03, Presence::Listed, None),
    (0x4b56_4d04, Presence::Listed, None),
    (0x4b56_4d05, Presence::Listed, None),
    (0x4b56_4d06, Presence::Listed, None),
    // The timer's deadline; the local APIC has been restored before the registers.
    (0x6e0, Presence::Listed, None),
];

/// Variable and fixed memory type ranges, which KVM has but does not list. All off at power-on.
const MEMORY_TYPE_RANGES: [std::ops::RangeInclusive<u32>; 4] =
    [0x200..=0x20f, 0x250..=0x250, 0x258..=0x259, 0x268..=0x26f];

/// Numbers of all registers of the table, in the order in which they are restored.
pub fn saved_msrs() -> impl Iterator<Item = u32> {
    let ranges = MEMORY_TYPE_RANGES.into_iter().flatten();
    ranges.chain(MSRS.iter().map(|(index, _, _)| *index))
}

/// Whether a register is there although KVM's list lacks it.
pub fn is_unlisted_msr(index: u32) -> bool {
    MEMORY_TYPE_RANGES.iter().any(|range| range.contains(&index))
        || MSRS.iter().any(|entry| entry.0 == index && entry.1 == Presence::Unlisted)
}

/// Registers whose value at power-on differs from what the engine starts with.
pub fn power_on_msrs() -> Vec<kvm_msr_entry> {
    let given = MSRS.iter().filter_map(|(index, _, value)| Some((*index, (*value)?)));
    given.map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() }).collect()
}

#[cfg(test)]
mod tests;
