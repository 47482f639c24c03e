//! Counts and times.

use std::time::Duration;

use crate::refusal::refuse;

/// A whole number between `least` and `most`.
pub fn between(option: &str, text: &str, least: u32, most: u32) -> anyhow::Result<u32> {
    let remedy = format!("give a whole number from {least} to {most}");
    match text.parse::<u32>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Ok(_) => Err(refuse(option, text, "it is out of range", &remedy)),
        Err(_) => Err(refuse(option, text, "it is not a whole number", &remedy)),
    }
}

/// A time in seconds, fractions allowed, up to a day.
pub fn seconds(option: &str, text: &str) -> anyhow::Result<Duration> {
    let number: f64 = text.parse().unwrap_or(f64::NAN);
    if (0.0..=86_400.0).contains(&number) {
        return Ok(Duration::from_secs_f64(number));
    }
    Err(refuse(option, text, "it is not a time", "give seconds from 0 to 86400"))
}
