//! Instructions that change what the processor is.

mod watch;
