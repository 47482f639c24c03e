//! Seccomp filters compiled from the profiles at build time, and their installation.
