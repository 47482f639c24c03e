//! Guest memory: checked ranges and grants over a sealed memfd, copies and atomics only.
