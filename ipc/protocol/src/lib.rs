//! The messages themselves: one file for each pair of processes that speak.
