//! Sizes as people write and read them.

/// Bytes of `512M`, `4G`, `65536`: suffixes k, M, G, T, P are powers of 1024.
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("'{text}' is not a size"))?;
    let shift = match suffix {
        "" | "b" | "B" => 0,
        "k" | "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        _ => return Err(format!("'{suffix}' is not a unit of size; use k, M, G, T or P")),
    };
    number.checked_mul(1 << shift).ok_or_else(|| format!("'{text}' is too large"))
}

/// `1 MiB`, `324 KiB`, `1.5 GiB`: three digits that matter, as qemu-img writes them.
pub fn human(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = match value {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_as_qemu_img_does() {
        assert_eq!(parse("1M"), Ok(1 << 20));
        assert_eq!(parse("77"), Ok(77));
        assert!(parse("1X").is_err() && parse("M").is_err() && parse("99999999P").is_err());
        for (bytes, text) in [(196 << 10, "196 KiB"), (1 << 20, "1 MiB"), (1_572_864, "1.5 MiB")] {
            assert_eq!(human(bytes), text);
        }
    }
}
