//! The skeleton every helper shares: sealed start, last words, heartbeats.
