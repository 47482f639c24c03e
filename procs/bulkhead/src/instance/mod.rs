//! Running instances, as a client of their control sockets.

mod client;
pub mod commands;
pub mod console;
pub mod events;
mod proc;
pub mod ps;

pub use client::Client;
