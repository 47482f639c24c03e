//! What stands in front of a disk: limits by QEMU's names, copy-on-read, delays and faults.
//!
//! A rule of faults is `OPERATION:EFFECT[:KEY=VALUE…]`, rules are separated by `;`:
//! `write:EIO:offset=1M:size=64K:after=2:times=1;flush:delay=100`.

use bulkhead_protocol::filters::{
    Fault, FaultOn, FaultThen, Filters, LONGEST_DELAY, Limit, Limits,
};

use crate::options::keyed::{Keyed, nearest};
use crate::options::{number, size};

/// How keys of limits begin in `--disk`.
const PREFIX: &str = "throttling.";

/// Most that is said of a rule in a number.
const MOST: u32 = u32::MAX;

/// Errnos that a disk may answer, by their names.
const ERRNOS: [(&str, u16); 8] = [
    ("EPERM", 1),
    ("EIO", 5),
    ("ENOMEM", 12),
    ("EINVAL", 22),
    ("EFBIG", 27),
    ("ENOSPC", 28),
    ("ENOTSUP", 95),
    ("ETIMEDOUT", 110),
];

/// All filters of a disk.
pub fn filters(keyed: &mut Keyed) -> anyhow::Result<Filters> {
    let filters = Filters {
        delay_ms: keyed.number("delay", 0, LONGEST_DELAY)?.unwrap_or(0),
        limits: limits(keyed, PREFIX)?,
        group: keyed.value(&format!("{PREFIX}group"))?,
        copy_on_read: keyed.switch("copy-on-read")?,
        faults: match keyed.value("inject")? {
            Some(rules) => rules.split(';').map(fault).collect::<anyhow::Result<_>>()?,
            None => Vec::new(),
        },
    };
    match filters.check() {
        Ok(()) => Ok(filters),
        Err(error) => Err(keyed.refuse(&error.to_string(), "give others, or leave them out")),
    }
}

/// Limits whose keys begin with `prefix`.
pub fn limits(keyed: &mut Keyed, prefix: &str) -> anyhow::Result<Limits> {
    let mut limit = |name: &str| -> anyhow::Result<Limit> {
        let mut number = |suffix: &str| units(keyed, &format!("{prefix}{name}{suffix}"));
        let (average, burst) = (number("")?, number("-max")?);
        Ok(Limit { average, burst, burst_seconds: number("-max-length")? })
    };
    Ok(Limits {
        bytes: limit("bps-total")?,
        read_bytes: limit("bps-read")?,
        written_bytes: limit("bps-write")?,
        requests: limit("iops-total")?,
        reads: limit("iops-read")?,
        writes: limit("iops-write")?,
        request_size: units(keyed, &format!("{prefix}iops-size"))?,
    })
}

fn units(keyed: &mut Keyed, key: &str) -> anyhow::Result<u64> {
    keyed.value(key)?.map_or(Ok(0), |text| size::bytes(key, &text))
}

fn fault(text: &str) -> anyhow::Result<Fault> {
    const OPERATIONS: [(&str, FaultOn); 6] = [
        ("read", FaultOn::Read),
        ("write", FaultOn::Write),
        ("write-zeroes", FaultOn::Zero),
        ("discard", FaultOn::Discard),
        ("flush", FaultOn::Flush),
        ("any", FaultOn::Any),
    ];
    const KEYS: &[&str] = &["offset", "size", "after", "times", "delay"];
    let refuse = |reason: String, remedy: &str| {
        crate::refusal::refuse("--disk inject", text, &reason, remedy)
    };
    let mut parts = text.split(':');
    let operation = parts.next().unwrap_or_default();
    let Some((_, on)) = OPERATIONS.iter().find(|(name, _)| *name == operation) else {
        let known = OPERATIONS.map(|(name, _)| name);
        return Err(refuse(
            format!("there is no operation '{operation}'"),
            &nearest(operation, &known),
        ));
    };
    let mut rest: Vec<&str> = parts.collect();
    let named = rest.first().and_then(|first| errno(first));
    if named.is_some() {
        rest.remove(0);
    }
    let mut keyed = Keyed::parse("--disk inject", &rest.join(","), &[KEYS])?;
    let delay = keyed.number("delay", 0, LONGEST_DELAY)?;
    let then = match (named, delay) {
        (Some(errno), None) => FaultThen::Fail(errno),
        (None, Some(delay)) => FaultThen::Wait(delay),
        _ => {
            let remedy = "write an errno such as EIO, or delay=MILLISECONDS, after the operation";
            return Err(refuse("it does not say what happens".to_owned(), remedy));
        }
    };
    Ok(Fault {
        on: *on,
        at: units(&mut keyed, "offset")?,
        len: units(&mut keyed, "size")?,
        after: keyed.number("after", 0, MOST)?.unwrap_or(0).into(),
        times: keyed.number("times", 0, MOST)?.unwrap_or(0).into(),
        then,
    })
}

/// An errno by its name, or as a number.
fn errno(text: &str) -> Option<u16> {
    let named = ERRNOS.iter().find(|(name, _)| *name == text).map(|(_, errno)| *errno);
    named.or_else(|| number::between("errno", text, 1, 4095).ok().and_then(|n| n.try_into().ok()))
}

/// The keys of limits, without a prefix.
pub const LIMIT_KEYS: &[&str] = &[
    "bps-total",
    "bps-total-max",
    "bps-total-max-length",
    "bps-read",
    "bps-read-max",
    "bps-read-max-length",
    "bps-write",
    "bps-write-max",
    "bps-write-max-length",
    "iops-total",
    "iops-total-max",
    "iops-total-max-length",
    "iops-read",
    "iops-read-max",
    "iops-read-max-length",
    "iops-write",
    "iops-write-max",
    "iops-write-max-length",
    "iops-size",
    // Short for those of all requests.
    "bps",
    "bps-max",
    "iops",
    "iops-max",
];
