//! `/proc/PID/status`: filter, privileges, capabilities.

use bulkhead_protocol::launch::Layer;

use super::{Expected, Fault};

/// Compares a status file.
pub fn check(text: &str, filters: usize, expected: &Expected<'_>) -> Result<(), Fault> {
    let seccomp = [("Seccomp", 2), ("Seccomp_filters", filters as u64)];
    for (field, wanted) in seccomp {
        want(text, Layer::Seccomp, field, 10, wanted, expected)?;
    }
    want(text, Layer::NoNewPrivileges, "NoNewPrivs", 10, 1, expected)?;
    for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        want(text, Layer::Capabilities, field, 16, 0, expected)?;
    }
    match value(text, "TracerPid", 10) {
        Some(0) => Ok(()),
        _ => Err(Fault::Deviation("somebody traces it".into())),
    }
}

fn want(
    text: &str,
    layer: Layer,
    field: &str,
    radix: u32,
    wanted: u64,
    expected: &Expected<'_>,
) -> Result<(), Fault> {
    match value(text, field, radix) {
        Some(found) if found == wanted => Ok(()),
        _ if expected.weaker.contains(&layer) => Ok(()),
        Some(found) => {
            let what = format!("its {field} is {found:#x} and not {wanted:#x}");
            Err(Fault::Deviation(what))
        }
        None => Err(Fault::Deviation(format!("it has no {field}"))),
    }
}

fn value(text: &str, field: &str, radix: u32) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    u64::from_str_radix(line.trim(), radix).ok()
}

/// State and CPU time in ticks of a stat file: fields 3, and 14 and 15 together. The name in
/// parentheses may hold anything.
pub fn state_and_ticks(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    let mut ticks = fields.skip(10).take(2).map(|field| field.parse::<u64>().ok());
    Some((state, ticks.next()?? + ticks.next()??))
}

/// Seccomp filters in force, as `/proc/PID/status` tells; kernels before 5.9 do not.
pub fn filters(text: &str) -> usize {
    value(text, "Seccomp_filters", 10).and_then(|count| count.try_into().ok()).unwrap_or(0)
}
