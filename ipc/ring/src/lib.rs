//! Single-producer single-consumer descriptor rings and their data arena in one sealed memfd.
