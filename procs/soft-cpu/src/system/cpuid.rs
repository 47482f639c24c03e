//! What the processor says of itself: exactly what is here.
//!
//! The leaves go through `bulkhead_hypervisor`'s table as KVM's do, so that both engines tell the same
//! of topology, hypervisor and what is hidden.

use bulkhead_hypervisor::x86_64::processor::{self, Place};
use iced_x86::Mnemonic as M;
use kvm_bindings::kvm_cpuid_entry2;

use crate::cpu::Cpu;
use crate::memory::walk::PHYSICAL_BITS;
use crate::op::{At, Handler, Next};
use crate::select::Draft;
use crate::state::{Reg, cr4};

/// The leaves of one vCPU.
#[derive(Debug, Clone, Default)]
pub struct Leaves(Vec<kvm_cpuid_entry2>);

/// Leaf 1, EDX: fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr
/// sse sse2 ss.
const BASIC_EDX: u32 = 0x0f8b_fbfd;

/// Leaf 1, ECX: sse3 pclmulqdq ssse3 cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes
/// hypervisor.
const BASIC_ECX: u32 = 1
    | 1 << 1
    | 1 << 9
    | 1 << 13
    | 1 << 17
    | 1 << 19
    | 1 << 20
    | 1 << 21
    | 1 << 22
    | 1 << 23
    | 1 << 24
    | 1 << 25
    | 1 << 31;

/// Leaf 7, EBX: fsgsbase tsc_adjust smep erms invpcid smap.
const EXTENDED_EBX: u32 = 1 | 1 << 1 | 1 << 7 | 1 << 9 | 1 << 10 | 1 << 20;
/// Leaf 7, ECX: umip.
const EXTENDED_ECX: u32 = 1 << 2;
/// Leaf 7, EDX: fast short rep, speculation control, architecture capabilities.
const EXTENDED_EDX: u32 = 1 << 4 | 1 << 26 | 1 << 29;

/// Leaf 0x80000001, ECX: lahf in 64-bit mode, lzcnt (as `abm`), prefetchw.
const FAR_ECX: u32 = 1 | 1 << 5 | 1 << 8;
/// Leaf 0x80000001, EDX: syscall nx rdtscp lm.
const FAR_EDX: u32 = 1 << 11 | 1 << 20 | 1 << 27 | 1 << 29;

/// KVM's features: clock by registers 0x4b564d00 and 1, which is stable; no need of I/O delays.
const PARAVIRTUAL: u32 = 1 << 1 | 1 << 3 | 1 << 24;

fn leaf(function: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
    let [eax, ebx, ecx, edx] = registers;
    kvm_cpuid_entry2 { function, eax, ebx, ecx, edx, ..Default::default() }
}

fn text(bytes: &[u8; 12]) -> [u32; 3] {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [word(0), word(4), word(8)]
}

impl Leaves {
    /// Of the vCPU at `place`, whose counter ticks this often a second.
    pub fn new(place: Place, frequency: u64) -> Self {
        let [b, d, c] = text(b"GenuineIntel");
        let [kvm_b, kvm_c, kvm_d] = text(b"KVMKVMKVM\0\0\0");
        let kilohertz = (frequency / 1000) as u32;
        let megahertz = kilohertz / 1000;
        let mut leaves = vec![
            leaf(0, [0x16, b, c, d]),
            // Family 6, model 94: a processor that kernels do not work around much.
            leaf(1, [0x0005_06e3, 8 << 8, BASIC_ECX, BASIC_EDX]),
            leaf(2, [1, 0, 0, 0]),
            leaf(6, [1 << 2, 0, 0, 0]),
            indexed(7, 0, [0, EXTENDED_EBX, EXTENDED_ECX, EXTENDED_EDX]),
            // One tick of the crystal is a microsecond; the counter's ratio to it.
            leaf(0x15, [1, megahertz, 1_000_000, 0]),
            leaf(0x16, [megahertz, megahertz, 100, 0]),
            leaf(0x4000_0000, [0x4000_0010, kvm_b, kvm_c, kvm_d]),
            leaf(0x4000_0001, [PARAVIRTUAL, 0, 0, 0]),
            leaf(0x4000_0010, [kilohertz, 1_000_000, 0, 0]),
            leaf(0x8000_0000, [0x8000_0008, 0, 0, 0]),
            leaf(0x8000_0001, [0, 0, FAR_ECX, FAR_EDX]),
            // The counter never stops.
            leaf(0x8000_0007, [0, 0, 0, 1 << 8]),
            leaf(0x8000_0008, [PHYSICAL_BITS | 48 << 8, 0, 0, 0]),
        ];
        let name = b"Bulkhead software processor\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        for (index, part) in (0..).zip(name.chunks_exact(16)) {
            let word = |at: usize| {
                u32::from_le_bytes([part[at], part[at + 1], part[at + 2], part[at + 3]])
            };
            leaves.push(leaf(0x8000_0002 + index, [word(0), word(4), word(8), word(12)]));
        }
        // 32 KiB of data and of code, 1 MiB behind them.
        for (index, kind, sets) in [(0, 0x121, 63), (1, 0x122, 63), (2, 0x143, 2047)] {
            leaves.push(indexed(4, index, [kind, 7 << 22 | 63, sets, 0]));
        }
        Self(processor::cpuid(&leaves, place))
    }

    /// The answer to a question: unknown basic leaves read as the last, others as zero.
    fn answer(&self, function: u32, index: u32) -> [u32; 4] {
        const SIGNIFICANT_INDEX: u32 = 1;
        let matches = |entry: &&kvm_cpuid_entry2| {
            entry.function == function
                && (entry.flags & SIGNIFICANT_INDEX == 0 || entry.index == index)
        };
        match self.0.iter().find(matches) {
            Some(entry) => [entry.eax, entry.ebx, entry.ecx, entry.edx],
            // Beyond the last level of the topology, the questions are still answered.
            None if function == 0xb => [0, 0, index & 0xff, 0],
            None => [0; 4],
        }
    }
}

fn indexed(function: u32, index: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
    const SIGNIFICANT_INDEX: u32 = 1;
    kvm_cpuid_entry2 { index, flags: SIGNIFICANT_INDEX, ..leaf(function, registers) }
}

pub(super) fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    (draft.instruction.mnemonic() == M::Cpuid).then_some(cpuid as Handler)
}

fn cpuid(cpu: &mut Cpu, at: At) -> Next {
    const OSXSAVE: u32 = 1 << 27;
    const APIC: u32 = 1 << 9;
    let function: u32 = cpu.regs.get(Reg::RAX);
    let index: u32 = cpu.regs.get(Reg::RCX);
    let [eax, ebx, mut ecx, mut edx] = cpu.leaves.answer(function, index);
    if function == 1 {
        let on = cpu.control.cr4 & cr4::OSXSAVE != 0;
        ecx = if on { ecx | OSXSAVE } else { ecx & !OSXSAVE };
        edx = if cpu.apic.is_enabled() { edx } else { edx & !APIC };
    }
    for (reg, value) in [(Reg::RAX, eax), (Reg::RBX, ebx), (Reg::RCX, ecx), (Reg::RDX, edx)] {
        cpu.regs.set(reg, value);
    }
    at.next(cpu)
}
