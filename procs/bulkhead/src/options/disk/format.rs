//! What an image is: its format, the files below it, and which bytes of a raw file are meant.

use std::path::{Path, PathBuf};

use bulkhead_protocol::spec::{BackingFormat, BackingSpec, Format, MOST_LAYERS, Part, ServerSpec};
use bulkhead_protocol::uri::is_uri;

use crate::options::keyed::Keyed;
use crate::options::{chain, server, size};

/// Instead of a path: what the headers name.
const AUTO: &str = "auto";

macro_rules! keys {
    ($($number:literal)*) => {
        &[
            "backing",
            "backing-format",
            $(concat!("backing", $number), concat!("backing", $number, "-format"),)*
        ]
    };
}

/// Keys of the backing files: as many as a disk has layers below its top one.
pub const KEYS: &[&str] = keys!(
    2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
);

const _: () = assert!(KEYS.len() / 2 == MOST_LAYERS - 1, "a key and its format for each");

/// The format that is said, with what belongs to it.
pub fn format(
    keyed: &mut Keyed,
    path: &Path,
    common: Option<ServerSpec>,
) -> anyhow::Result<Format> {
    match keyed.value("format")?.as_deref() {
        Some("raw") => {
            for key in ["data-file", "backing"] {
                if keyed.value(key)?.is_some() {
                    let reason = format!("'{key}' is of a qcow2 image");
                    return Err(keyed.refuse(&reason, "add format=qcow2, or leave it out"));
                }
            }
            Ok(Format::Raw(part(keyed, "offset", "size")?))
        }
        Some("luks") => Ok(Format::Luks { secret: keyed.required("key-secret")?.into() }),
        Some("qcow2") => Ok(Format::Qcow2 {
            secret: keyed.value("key-secret")?.map(PathBuf::from),
            data_file: keyed.value("data-file")?.map(PathBuf::from),
            backing: backing(keyed, path, common)?,
        }),
        Some(other) => {
            let reason = format!("format '{other}' is not served");
            let remedy = format!("convert the image: qemu-img convert -f {other} -O qcow2");
            Err(keyed.refuse(&reason, &remedy))
        }
        None => {
            let reason = "'format' is missing and is never guessed";
            Err(keyed.refuse(reason, "add format=raw, qcow2 or luks"))
        }
    }
}

/// `backing=` for the nearest, `backing2=` for the one below that, and so on; `backing=auto`: as the headers
/// say. `base-offset=`, `base-size=` and `base-key-secret=` are of the lowest.
///
/// A backing file may lie on a server; the certificates and delays of the disk are its own as well.
fn backing(
    keyed: &mut Keyed,
    image: &Path,
    mut common: Option<ServerSpec>,
) -> anyhow::Result<Vec<BackingSpec>> {
    let mut layers = Vec::new();
    for number in 1..MOST_LAYERS {
        let key = if number == 1 { "backing".to_owned() } else { format!("backing{number}") };
        let Some(path) = keyed.value(&key)? else {
            break;
        };
        if number == 1 && path == AUTO {
            let followed = chain::follow(image);
            return followed.map_err(|(reason, remedy)| keyed.refuse(&reason, remedy));
        }
        let format = format!("{key}-format");
        let format = match keyed.value(&format)?.as_deref() {
            Some("qcow2") => BackingFormat::Qcow2,
            Some("raw") => BackingFormat::Raw(part(keyed, "base-offset", "base-size")?),
            Some("luks") => {
                BackingFormat::Luks { secret: keyed.required("base-key-secret")?.into() }
            }
            Some(other) => {
                let reason = format!("{format} '{other}' is not served");
                return Err(keyed.refuse(&reason, "write raw, qcow2 or luks"));
            }
            None => {
                let reason = format!("'{format}' is missing and is never guessed");
                return Err(keyed.refuse(&reason, &format!("add {format}=raw, qcow2 or luks")));
            }
        };
        let has_more = format == BackingFormat::Qcow2;
        let server = match is_uri(&path) {
            true => Some(server::another(keyed, &path, &mut common)?),
            false => None,
        };
        layers.push(BackingSpec { path: path.into(), server, format });
        if !has_more {
            break;
        }
    }
    Ok(layers)
}

fn part(keyed: &mut Keyed, offset: &str, size: &str) -> anyhow::Result<Part> {
    let mut bytes = |key: &str| -> anyhow::Result<Option<u64>> {
        let text = keyed.value(key)?;
        text.map(|text| size::bytes(&format!("--disk {key}"), &text)).transpose()
    };
    Ok(Part { offset: bytes(offset)?.unwrap_or(0), size: bytes(size)? })
}
