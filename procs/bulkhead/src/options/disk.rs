//! `--disk` and `[[disk]]`.

use std::path::{Path, PathBuf};

use bulkhead_protocol::block_control::ErrorPolicy;
use bulkhead_protocol::spec::{BackingSpec, CacheMode, DiskSource, DiskSpec, Format, OnError};

use super::keyed::{Keyed, nearest};

const KEYS: &[&str] = &[
    "path",
    "format",
    "readonly",
    "id",
    "serial",
    "cache",
    "discard",
    "queues",
    "cpu",
    "delay",
    "rerror",
    "werror",
    "vhost-user",
    "data-file",
    "backing",
    "backing-format",
    "backing2",
    "backing2-format",
    "backing3",
    "backing3-format",
    "backing4",
    "backing4-format",
    "backing5",
    "backing5-format",
    "backing6",
    "backing6-format",
    "backing7",
    "backing7-format",
    "backing8",
    "backing8-format",
];

/// Instead of a path: what the headers name.
const AUTO: &str = "auto";

/// Most backing files of an image.
pub const MOST_LAYERS: usize = 8;

/// Bytes of a serial number (virtio 1.2 section 5.2.6: VIRTIO_BLK_ID_BYTES).
const SERIAL_BYTES: usize = 20;

/// Longest delay in milliseconds.
const DELAY_MOST: u32 = 60_000;

/// Reads one disk; `index` names it if it has no id.
pub fn parse(text: &str, index: usize) -> anyhow::Result<DiskSpec> {
    let mut keyed = Keyed::parse("--disk", text, KEYS)?;
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
    Ok(DiskSpec {
        id,
        serial,
        queues: u16::try_from(queues)?,
        cpu: keyed.number("cpu", 0, 1023)?,
        delay_ms: keyed.number("delay", 0, DELAY_MOST)?.unwrap_or(0),
        on_error: OnError {
            read: policy(&mut keyed, "rerror", ErrorPolicy::Report)?,
            write: policy(&mut keyed, "werror", ErrorPolicy::Enospc)?,
        },
        source: source(&mut keyed)?,
    })
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
        let image = ["path", "format", "cache", "discard", "readonly", "delay", "rerror", "werror"];
        for key in image {
            if keyed.value(key).map_or(true, |value| value.is_some()) {
                let reason = format!("'{key}' is of an image, 'vhost-user' of another program's");
                return Err(keyed.refuse(&reason, "give one of the two"));
            }
        }
        return Ok(DiskSource::VhostUser { socket: socket.into() });
    }
    let path = keyed.required("path")?;
    Ok(DiskSource::Image {
        format: format(keyed, path.as_ref())?,
        path: path.into(),
        cache: cache(keyed)?,
        discard: discard(keyed)?,
        read_only: keyed.switch("readonly")?,
    })
}

fn format(keyed: &mut Keyed, path: &Path) -> anyhow::Result<Format> {
    match keyed.value("format")?.as_deref() {
        Some("raw") => {
            for key in ["data-file", "backing"] {
                if keyed.value(key)?.is_some() {
                    let reason = format!("'{key}' is of a qcow2 image");
                    return Err(keyed.refuse(&reason, "add format=qcow2, or leave it out"));
                }
            }
            Ok(Format::Raw)
        }
        Some("qcow2") => Ok(Format::Qcow2 {
            data_file: keyed.value("data-file")?.map(PathBuf::from),
            backing: backing(keyed, path)?,
        }),
        Some(other) => {
            let reason = format!("format '{other}' is not served");
            Err(keyed.refuse(&reason, "convert the image: qemu-img convert -O raw"))
        }
        None => {
            let reason = "'format' is missing and is never guessed";
            Err(keyed.refuse(reason, "add format=raw or format=qcow2"))
        }
    }
}

/// `backing=` for the nearest, `backing2=` for the one below that, and so on; `backing=auto`: as the headers
/// say.
fn backing(keyed: &mut Keyed, image: &Path) -> anyhow::Result<Vec<BackingSpec>> {
    let mut layers = Vec::new();
    for number in 1..=MOST_LAYERS {
        let key = if number == 1 { "backing".to_owned() } else { format!("backing{number}") };
        let Some(path) = keyed.value(&key)? else {
            break;
        };
        if number == 1 && path == AUTO {
            let followed = super::chain::follow(image);
            return followed.map_err(|(reason, remedy)| keyed.refuse(&reason, remedy));
        }
        let format = format!("{key}-format");
        let qcow2 = match keyed.value(&format)?.as_deref() {
            Some("qcow2") => true,
            Some("raw") => false,
            Some(other) => {
                let reason = format!("{format} '{other}' is not served");
                return Err(keyed.refuse(&reason, "write raw or qcow2"));
            }
            None => {
                let reason = format!("'{format}' is missing and is never guessed");
                return Err(keyed.refuse(&reason, &format!("add {format}=raw or qcow2")));
            }
        };
        layers.push(BackingSpec { path: path.into(), qcow2 });
        if !qcow2 {
            break;
        }
    }
    Ok(layers)
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
