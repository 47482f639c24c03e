//! The profiles, as part of the program text.

use crate::{Manifest, ManifestError};

macro_rules! profiles {
    ($($name:literal),* $(,)?) => {
        /// Every profile: its name and its text.
        pub const PROFILES: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../profiles/", $name, ".toml")))),*
        ];
    };
}

profiles![
    "supervisor",
    "launcher",
    "control",
    "core",
    "core-vcpu",
    "soft-cpu",
    "soft-cpu-jit",
    "vhost-blk",
    "vhost-console",
    "vhost-rng",
    "gdb",
    "block-layer",
    "block-tool",
    "nbd-server",
    "sink",
];

/// The profiles of processes.
pub const CLASSES: &[&str] = &[
    "supervisor",
    "launcher",
    "control",
    "core",
    "soft-cpu",
    "soft-cpu-jit",
    "vhost-blk",
    "vhost-console",
    "vhost-rng",
    "gdb",
    "block-layer",
    "block-tool",
    "nbd-server",
    "sink",
];

/// The profiles of threads that have a narrower filter than their process, with its class.
pub const THREADS: &[(&str, &str)] = &[("core-vcpu", "core")];

/// Text of a profile.
pub fn text(name: &str) -> Option<&'static str> {
    PROFILES.iter().find(|(profile, _)| *profile == name).map(|(_, text)| *text)
}

/// A profile, read and held against the law.
pub fn profile(name: &str) -> Result<Manifest, ManifestError> {
    let missing = || ManifestError { profile: name.into(), what: "there is none".into() };
    Manifest::parse(name, text(name).ok_or_else(missing)?)
}
