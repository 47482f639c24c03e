//! `--console` and `--serial`: where the guest's bytes go.

use std::path::PathBuf;

use super::keyed::nearest;
use crate::refusal::refuse;

/// Where the virtio-console goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Console {
    /// No such device.
    Off,
    /// The command's own stdin and stdout.
    Stdio,
    /// A pseudo-terminal whose name is printed.
    Pty,
    /// A listening socket; one viewer at a time.
    Socket(PathBuf),
    /// Output appended to a file.
    File(PathBuf),
}

/// Where ttyS0 goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serial {
    /// Nowhere.
    Off,
    /// The command's own stdin and stdout.
    Stdio,
    /// Output appended to a file.
    File(PathBuf),
}

impl Console {
    /// Reads `--console`.
    pub fn parse(text: Option<&str>) -> anyhow::Result<Self> {
        Ok(match text {
            None | Some("off") => Self::Off,
            Some("stdio") => Self::Stdio,
            Some("pty") => Self::Pty,
            Some(text) => match text.split_once('=') {
                Some(("socket", path)) if !path.is_empty() => Self::Socket(path.into()),
                Some(("file", path)) if !path.is_empty() => Self::File(path.into()),
                _ => {
                    let remedy =
                        nearest(text, &["stdio", "pty", "socket=PATH", "file=PATH", "off"]);
                    return Err(refuse(
                        "--console",
                        text,
                        "it is not a place for a console",
                        &remedy,
                    ));
                }
            },
        })
    }
}

impl Serial {
    /// Reads `--serial`, given where the console goes.
    pub fn parse(text: Option<&str>, console: &Console) -> anyhow::Result<Self> {
        let serial = match text {
            None if *console == Console::Stdio => Self::Off,
            None | Some("stdio") => Self::Stdio,
            Some("off") => Self::Off,
            Some(text) => match text.split_once('=') {
                Some(("file", path)) if !path.is_empty() => Self::File(path.into()),
                _ => {
                    let remedy = nearest(text, &["stdio", "off", "file=PATH"]);
                    return Err(refuse("--serial", text, "it is not a place for ttyS0", &remedy));
                }
            },
        };
        if serial == Self::Stdio && *console == Console::Stdio {
            let remedy = "send one of them elsewhere: --serial off";
            return Err(refuse("--serial", "stdio", "the console is there already", remedy));
        }
        Ok(serial)
    }
}
