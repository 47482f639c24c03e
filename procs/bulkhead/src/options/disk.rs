//! `--disk` and `[[disk]]`.

mod filters;
mod format;

use bulkhead_protocol::block_control::ErrorPolicy;
use bulkhead_protocol::filters::Filters;
use std::path::PathBuf;

use bulkhead_protocol::spec::{AioMode, CacheMode, DiskSource, DiskSpec, OnError, ServerSpec};

use super::keyed::{Keyed, nearest};
use super::server;
pub use filters::{LIMIT_KEYS, limits};

const KEYS: &[&str] = &[
    "path",
    "format",
    "readonly",
    "id",
    "serial",
    "cache",
    "aio",
    "discard",
    "queues",
    "cpu",
    "delay",
    "copy-on-read",
    "inject",
    "verify",
    "throttling.bps-total",
    "throttling.bps-total-max",
    "throttling.bps-total-max-length",
    "throttling.bps-read",
    "throttling.bps-read-max",
    "throttling.bps-read-max-length",
    "throttling.bps-write",
    "throttling.bps-write-max",
    "throttling.bps-write-max-length",
    "throttling.iops-total",
    "throttling.iops-total-max",
    "throttling.iops-total-max-length",
    "throttling.iops-read",
    "throttling.iops-read-max",
    "throttling.iops-read-max-length",
    "throttling.iops-write",
    "throttling.iops-write-max",
    "throttling.iops-write-max-length",
    "throttling.iops-size",
    "throttling.group",
    "rerror",
    "werror",
    "vhost-user",
    "driver",
    "size",
    "offset",
    "data-file",
    "base-offset",
    "base-size",
    "key-secret",
    "base-key-secret",
];

/// Bytes of a serial number (virtio 1.2 section 5.2.6: VIRTIO_BLK_ID_BYTES).
const SERIAL_BYTES: usize = 20;

/// Reads one disk; `index` names it if it has no id.
pub fn parse(text: &str, index: usize) -> anyhow::Result<DiskSpec> {
    let mut keyed = Keyed::parse("--disk", text, &[KEYS, format::KEYS, server::KEYS])?;
    let id = keyed.value("id")?.unwrap_or_else(|| format!("d{index}"));
    if !is_name(&id) {
        return Err(
            keyed.refuse(&format!("'{id}' is no id"), "use up to 32 letters, digits, - and _")
        );
    }
    let serial = keyed.value("serial")?.unwrap_or_default();
    if serial.len() > SERIAL_BYTES {
        return Err(keyed.refuse("the serial is longer than 20 bytes", "shorten it"));
    }
    let queues = keyed.number("queues", 1, 16)?.unwrap_or(0);
    let aio = aio(&mut keyed)?;
    let disk = DiskSpec {
        id,
        serial,
        queues: u16::try_from(queues)?,
        cpu: keyed.number("cpu", 0, 1023)?,
        filters: filters::filters(&mut keyed)?,
        verify: keyed.value("verify")?.map(PathBuf::from),
        on_error: OnError {
            read: policy(&mut keyed, "rerror", ErrorPolicy::Report)?,
            write: policy(&mut keyed, "werror", ErrorPolicy::Enospc)?,
        },
        source: source(&mut keyed)?,
        aio,
    };
    let direct = matches!(disk.source, DiskSource::Image { cache: CacheMode::None, .. });
    if aio == AioMode::Native && !direct {
        let reason = "'aio=native' is for images past the page cache";
        return Err(keyed.refuse(reason, "write cache=none too, or leave it out"));
    }
    if matches!(disk.source, DiskSource::VhostUser { .. }) && disk.filters != Filters::default() {
        let reason = "limits, delays and faults are of our block layer, not of another program's";
        return Err(keyed.refuse(reason, "leave them out"));
    }
    if disk.verify.is_some() && !matches!(disk.source, DiskSource::Image { .. }) {
        let reason = "'verify' is of an image: only such a disk can be held against another file";
        return Err(keyed.refuse(reason, "leave it out"));
    }
    keyed.refuse_rest()?;
    Ok(disk)
}

/// Whether `name` may name a disk or an instance: it becomes part of paths and thread names.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty()
        && name.len() <= 32
        && name.chars().all(plain)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn source(keyed: &mut Keyed) -> anyhow::Result<DiskSource> {
    if let Some(socket) = keyed.value("vhost-user")? {
        let image =
            ["path", "nbd", "format", "cache", "discard", "readonly", "rerror", "werror", "driver"];
        for key in image {
            if keyed.value(key).map_or(true, |value| value.is_some()) {
                let reason = format!("'{key}' is of an image, 'vhost-user' of another program's");
                return Err(keyed.refuse(&reason, "give one of the two"));
            }
        }
        return Ok(DiskSource::VhostUser { socket: socket.into() });
    }
    if let Some(driver) = keyed.value("driver")? {
        return null(keyed, &driver);
    }
    // What is said of the disk's server holds for those of its backing files.
    let mut common = None;
    let (path, server) = place(keyed, &mut common)?;
    Ok(DiskSource::Image {
        format: format::format(keyed, &path, common)?,
        path,
        server,
        cache: cache(keyed)?,
        discard: discard(keyed)?,
        read_only: keyed.switch("readonly")?,
    })
}

/// A file, or an export of a server.
fn place(
    keyed: &mut Keyed,
    common: &mut Option<ServerSpec>,
) -> anyhow::Result<(PathBuf, Option<ServerSpec>)> {
    let Some(uri) = keyed.value("nbd")? else {
        return Ok((keyed.required("path")?.into(), None));
    };
    for key in ["path", "cache"] {
        if keyed.value(key)?.is_some() {
            let reason = format!("'{key}' is of a file, and 'nbd' of a server");
            return Err(keyed.refuse(&reason, "leave one of the two out"));
        }
    }
    let server = server::another(keyed, &uri, common)?;
    Ok((uri.into(), Some(server)))
}

/// QEMU's `null-co`: to measure what is above a disk.
fn null(keyed: &mut Keyed, driver: &str) -> anyhow::Result<DiskSource> {
    if driver != "null-co" {
        let remedy = "write driver=null-co,size=…, or name an image by path= and format=";
        return Err(keyed.refuse(&format!("there is no driver '{driver}'"), remedy));
    }
    for key in ["path", "nbd", "format", "cache", "discard", "offset", "data-file", "backing"] {
        if keyed.value(key)?.is_some() {
            let reason = format!("'{key}' is of an image, and null-co has none");
            return Err(keyed.refuse(&reason, "leave it out"));
        }
    }
    let size = keyed.required("size")?;
    let size = super::size::bytes("--disk size", &size)?;
    Ok(DiskSource::Null { size, read_only: keyed.switch("readonly")? })
}

fn policy(keyed: &mut Keyed, key: &str, usual: ErrorPolicy) -> anyhow::Result<ErrorPolicy> {
    match keyed.value(key)?.as_deref() {
        None => Ok(usual),
        Some("report") => Ok(ErrorPolicy::Report),
        Some("ignore") => Ok(ErrorPolicy::Ignore),
        Some("stop") => Ok(ErrorPolicy::Stop),
        Some("enospc") => Ok(ErrorPolicy::Enospc),
        Some(other) => {
            let remedy = nearest(other, &["report", "ignore", "stop", "enospc"]);
            Err(keyed.refuse(&format!("'{key}={other}' is not known"), &remedy))
        }
    }
}

fn cache(keyed: &mut Keyed) -> anyhow::Result<CacheMode> {
    match keyed.value("cache")?.as_deref() {
        None | Some("writeback") => Ok(CacheMode::Writeback),
        Some("none") => Ok(CacheMode::None),
        Some("unsafe") => Ok(CacheMode::Unsafe),
        Some(other) => {
            let remedy = nearest(other, &["none", "writeback", "unsafe"]);
            Err(keyed.refuse(&format!("'cache={other}' is not known"), &remedy))
        }
    }
}

fn aio(keyed: &mut Keyed) -> anyhow::Result<AioMode> {
    match keyed.value("aio")?.as_deref() {
        None | Some("threads") => Ok(AioMode::Threads),
        Some("native") => Ok(AioMode::Native),
        Some(other) => {
            let remedy = nearest(other, &["threads", "native"]);
            Err(keyed.refuse(&format!("'aio={other}' is not known"), &remedy))
        }
    }
}

fn discard(keyed: &mut Keyed) -> anyhow::Result<bool> {
    match keyed.value("discard")?.as_deref() {
        None | Some("on" | "unmap") => Ok(true),
        Some("off" | "ignore") => Ok(false),
        Some(other) => {
            Err(keyed
                .refuse(&format!("'discard={other}' is neither on nor off"), "write on or off"))
        }
    }
}
