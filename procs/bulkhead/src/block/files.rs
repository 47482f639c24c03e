//! `path=FILE,…` and `nbd=URI,…`: files that snapshots and jobs write, and exports that jobs write.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bulkhead_protocol::block::LayerFormat;
use bulkhead_protocol::block_control::FileSpec;

use crate::options::keyed::{Keyed, nearest};
use crate::options::{server, small_bytes};

const KEYS: &[&str] = &["path", "format", "existing", "cluster-size"];

/// The new layer of a snapshot, which is qcow2.
pub fn overlay(option: &str, text: &str) -> anyhow::Result<FileSpec> {
    read(option, text, Some(LayerFormat::Qcow2))
}

/// The target of a job, whose format is always stated.
pub fn target(text: &str) -> anyhow::Result<FileSpec> {
    read("--target", text, None)
}

/// A path as the supervisor takes it, which has another working directory.
pub fn absolute(path: impl AsRef<Path>) -> anyhow::Result<PathBuf> {
    let path = path.as_ref();
    std::path::absolute(path).with_context(|| format!("{}: it is no path", path.display()))
}

fn read(option: &str, text: &str, default: Option<LayerFormat>) -> anyhow::Result<FileSpec> {
    let mut keyed = Keyed::parse(option, text, &[KEYS, server::KEYS])?;
    let format = match (keyed.value("format")?.as_deref(), default) {
        (Some("raw"), _) => LayerFormat::Raw,
        (Some("qcow2"), _) => LayerFormat::Qcow2,
        (Some(other), _) => {
            let reason = format!("format '{other}' is not written");
            return Err(keyed.refuse(&reason, &nearest(other, &["raw", "qcow2"])));
        }
        (None, Some(format)) => format,
        (None, None) => {
            let reason = "'format' is missing and is never guessed";
            return Err(keyed.refuse(reason, "add format=raw or format=qcow2"));
        }
    };
    let cluster = keyed.value("cluster-size")?;
    let cluster_size = match cluster {
        Some(text) => small_bytes(&format!("{option} cluster-size"), &text)?,
        None => 0,
    };
    let existing = keyed.switch("existing")?;
    let (path, server) = match keyed.value("nbd")? {
        Some(uri) => {
            if keyed.value("path")?.is_some() || cluster_size != 0 {
                let reason = "'path' and 'cluster-size' are of files, 'nbd' is of a server";
                return Err(keyed.refuse(reason, "leave them out"));
            }
            let (path, server) = server::server(&mut keyed, &uri)?;
            (path, Some(server))
        }
        None => (absolute(&keyed.required("path")?)?, None),
    };
    keyed.refuse_rest()?;
    Ok(FileSpec { path, server, format, existing, cluster_size })
}
