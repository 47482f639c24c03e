//! Sizes as people write them: `512M`, `4G`, `65536`.

use crate::refusal::refuse;

/// Bytes of an option's size.
pub fn bytes(option: &str, text: &str) -> anyhow::Result<u64> {
    parse(text).map_err(|why| refuse(option, text, why, "write it like 512, 64K or 10G"))
}

/// Bytes of an option's size below 4 GiB.
pub fn small_bytes(option: &str, text: &str) -> anyhow::Result<u32> {
    u32::try_from(bytes(option, text)?)
        .map_err(|_| refuse(option, text, "it is too large", "give less than 4G"))
}

/// Bytes of a size with an optional suffix K, M, G or T (powers of 1024; `KiB` and `KB` are read
/// as `K`).
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "it is not a size".to_owned())?;
    let shift = match suffix.trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        _ => return Err(format!("'{suffix}' is not a unit of size")),
    };
    number.checked_mul(1 << shift).ok_or_else(|| "it is too large".to_owned())
}
