//! The manifest of a process class: its authority as data, read from a TOML profile.
