//! `create`

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use bulkhead_protocol::tool::{ToolCommand, ToolEvent};

use crate::cli::image::Create;
use crate::disk::{Disk, files};
use crate::file::Access;
use crate::option::Wanted;
use crate::out;
use crate::target::Target;
use crate::tool::Front;

/// `create`
pub fn run(options: &Create, front: &mut Front) -> Result<ExitCode> {
    let Wanted { mut image, size } = Wanted::read(options.format, &options.options)?;
    if let Some(backing) = &options.backing {
        image.backing = Some(backing.clone());
    }
    if let Some(format) = options.backing_format {
        image.backing_format = Some(format.name().to_owned());
    }
    if image.backing.is_some() && image.backing_format.is_none() {
        bail!("a backing file needs its format; add -F FORMAT");
    }
    let size = match (options.size.or(size), &image.backing) {
        (Some(size), _) => size,
        (None, Some(name)) => size_of_backing(options, name, front)?,
        (None, None) => bail!("say how large the disk is to be"),
    };
    // As QEMU does: whole sectors.
    let Some(size) = size.checked_next_multiple_of(512) else {
        bail!("a disk of {size} bytes is too large");
    };
    image.size = size;
    let target = Target::make(&options.file, &mut image, options.key_secret.as_deref(), &[])?;
    let files: Vec<_> = target.files().collect();
    let done = front.run(ToolCommand::Create(image), &files, |_| Ok(()));
    target.after(done, front.has_emptied())?;
    if !options.quiet {
        let (file, format) = (options.file.display(), options.format.name());
        out::line(format_args!("Formatting '{file}', fmt={format} size={size}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The backing file's, which is named relative to the image.
fn size_of_backing(options: &Create, name: &str, front: &mut Front) -> Result<u64> {
    let Some(format) = options.backing_format else {
        bail!("say how large the disk is to be, or what it is based on: -b NAME -F FORMAT");
    };
    let folder = options.file.parent().unwrap_or(Path::new(""));
    let disk = Disk::alone(format, &folder.join(name), Access::READ)?;
    let mut size = 0;
    front.run(ToolCommand::Info(disk.plan.clone()), &files([&disk]), |event| {
        if let ToolEvent::Image(facts) = event {
            size = facts.size;
        }
        Ok(())
    })?;
    Ok(size)
}
