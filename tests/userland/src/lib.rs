//! Debian 12 as a guest: its root file system on one disk, what a test wants run on another, and a
//! console to talk through. Executed by the software CPU, so it runs wherever the tests do.
//!
//! The tests in `tests/` hold what programs print in the guest against what they print on a CPU of
//! silicon (`answers/`, made by `answer.sh`), and against vectors that standards publish.
//!
//! Law: the image that `packaging/userland/mk-image.sh` made is copied and never written to.
#![forbid(unsafe_code)]

mod console;
mod disk;
mod guest;

pub use console::Console;
pub use guest::Guest;
