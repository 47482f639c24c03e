//! The record a panicking process leaves on descriptor 2.
//!
//! A panic must end in `exit_group`: unwinding and `abort()` need signals that the filter kills for,
//! and then a plain bug would look like an attack. The supervisor reads the record from the log pipe
//! and puts it into the event of the death.

use std::panic::PanicHookInfo;

use bulkhead_sys::process::exit_group;

/// Exit status of a panic, the one Rust's own runtime uses.
pub const PANIC_STATUS: i32 = 101;

/// Replaces the panic hook for all threads.
pub fn install(class: &'static str) {
    std::panic::set_hook(Box::new(move |info| {
        crate::log(&record(class, info));
        exit_group(PANIC_STATUS);
    }));
}

fn record(class: &str, info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = text.unwrap_or("a value that is no text");
    match info.location() {
        Some(place) => format!("{class}: panic: {message} at {place}"),
        None => format!("{class}: panic: {message}"),
    }
}
