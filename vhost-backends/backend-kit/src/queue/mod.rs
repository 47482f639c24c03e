//! A queue that is served: ring, in-flight record, doorbells, and what is known of its driver.
//!
//! Used by a device through [`Device::serve`](crate::Device::serve), and by the lane that owns it.

mod live;
mod position;
mod ring;
mod start;

pub use live::{LiveQueue, Taken};
pub use ring::Token;
pub use start::{QueueStart, StartFault};

#[cfg(test)]
mod tests;
