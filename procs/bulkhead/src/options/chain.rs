//! `backing=auto`: the chain that an image's headers name, for users who trust their images.
//!
//! Each header is read by `bulkhead-img` with the user's own authority, before anything is started; what it
//! names becomes a part of the spec like a name that was typed. Without `backing=auto` no name in a header is
//! ever followed: an image from a stranger could name any file that its user may read.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bulkhead_protocol::spec::{BackingFormat, BackingSpec, MOST_LAYERS, Part};
use serde::Deserialize;

/// What a header says, as `bulkhead-img info --output=json` tells.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Header {
    backing_filename: Option<String>,
    backing_filename_format: Option<String>,
}

/// The files below `image`, the nearest first. An error says what is wrong, and what to do.
pub fn follow(image: &Path) -> Result<Vec<BackingSpec>, (String, &'static str)> {
    let mut layers: Vec<BackingSpec> = Vec::new();
    let mut above = image.to_owned();
    while let Some((path, qcow2)) = next(&above)? {
        let is_full = layers.len() + 1 == MOST_LAYERS;
        if is_full || path == image || layers.iter().any(|layer| layer.path == path) {
            let reason = format!("its chain has more than {MOST_LAYERS} files, or a loop");
            return Err((reason, "shorten it: bulkhead-img commit or convert"));
        }
        let format = match qcow2 {
            true => BackingFormat::Qcow2,
            false => BackingFormat::Raw(Part::default()),
        };
        layers.push(BackingSpec { path: path.clone(), server: None, format });
        if !qcow2 {
            break;
        }
        above = path;
    }
    Ok(layers)
}

/// What is below one image, relative to where that is.
fn next(image: &Path) -> Result<Option<(PathBuf, bool)>, (String, &'static str)> {
    let Header { backing_filename, backing_filename_format } = header(image)?;
    let Some(name) = backing_filename else {
        return Ok(None);
    };
    let qcow2 = match backing_filename_format.as_deref() {
        Some("qcow2") => true,
        Some("raw") => false,
        Some(other) => {
            let reason = format!("{} names a backing file of format {other}", image.display());
            return Err((reason, "convert that file to qcow2 or raw"));
        }
        None => {
            let reason = format!("{} names a backing file without a format", image.display());
            return Err((reason, "name its format: bulkhead-img rebase -u -b FILE -F FORMAT"));
        }
    };
    let folder = image.parent().unwrap_or(Path::new(""));
    Ok(Some((folder.join(name), qcow2)))
}

fn header(image: &Path) -> Result<Header, (String, &'static str)> {
    let tool = std::env::current_exe().map(|own| own.with_file_name("bulkhead-img"));
    let failed = |why: String| (why, "check the image, or give its backing files by name");
    let output = tool.and_then(|tool| {
        let mut command = Command::new(tool);
        command.args(["info", "--output=json", "-f", "qcow2"]).arg(image);
        command.stdin(Stdio::null()).output()
    });
    let output = output.map_err(|error| failed(format!("bulkhead-img: {error}")))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))
}
