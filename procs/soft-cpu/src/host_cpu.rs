//! What the host's CPU must offer, since guest instructions are computed by the host's own.
//!
//! Asked once for each machine, before it has a processor. Every `asm!` of `alu`, `vector` and `x87` relies on it. There is no
//! emulation of what is missing: all x86-64 CPUs since 2013 have these.

use core::arch::x86_64::__cpuid;

/// LAHF and SAHF in 64-bit mode, by which all flags come and go: bit 0 of ECX of leaf 8000_0001h.
const LAHF: u32 = 1;

/// The first instruction set that is missing.
pub fn missing() -> Option<&'static str> {
    let has_lahf = __cpuid(0x8000_0000).eax > 0x8000_0000 && __cpuid(0x8000_0001).ecx & LAHF != 0;
    let sets = [
        (is_x86_feature_detected!("fxsr"), "FXSAVE"),
        (is_x86_feature_detected!("ssse3"), "SSSE3"),
        (is_x86_feature_detected!("sse4.2"), "SSE4.2"),
        (is_x86_feature_detected!("aes"), "AES-NI"),
        (is_x86_feature_detected!("pclmulqdq"), "PCLMULQDQ"),
        (is_x86_feature_detected!("popcnt"), "POPCNT"),
        (is_x86_feature_detected!("lzcnt"), "LZCNT"),
        (is_x86_feature_detected!("bmi1"), "BMI1"),
        (is_x86_feature_detected!("cmpxchg16b"), "CMPXCHG16B"),
        (has_lahf, "LAHF in 64-bit mode"),
    ];
    sets.into_iter().find(|(is_there, _)| !is_there).map(|(_, name)| name)
}
