//! How many system calls each class may have in its steady state.

/// The budget of a profile. Growing past it takes a written reason
/// ([`crate::Manifest::over_budget`]).
pub fn budget(profile: &str) -> Option<usize> {
    Some(match profile {
        "vhost-rng" => 18,
        "vhost-console" | "vhost-blk" => 20,
        "sink" | "soft-cpu" | "soft-cpu-jit" | "gdb" => 20,
        "block-layer" => 28,
        "block-tool" => 24,
        "control" | "nbd-server" => 26,
        "core" => 40,
        "core-vcpu" => 16,
        "supervisor" => 45,
        "launcher" => 30,
        _ => return None,
    })
}
