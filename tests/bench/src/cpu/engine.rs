//! The engines that take part, and the command that starts a guest on each.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use bulkhead_harness::programs;

use super::guest::Guest;

/// The one host CPU that everything of a guest runs on.
const CPU: &str = "0";

/// Who executes the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    /// QEMU's translator.
    Tcg,
    /// Ours, every instruction by its handler.
    Interpreter,
    /// Ours, with translated code.
    Translator,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcg => "QEMU TCG",
            Self::Interpreter => "ours, jit=off",
            Self::Translator => "ours, jit=on",
        })
    }
}

/// The names of `engines`, for people.
pub fn names(engines: &[Engine]) -> String {
    engines.iter().map(Engine::to_string).collect::<Vec<_>>().join(" · ")
}

/// Those that run here. A command that knows no `jit=` has the interpreter only.
pub fn present(guest: &Guest) -> Result<Vec<Engine>> {
    if Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
        bail!("no qemu-system-x86_64 here: run packaging/install-deps.sh lab");
    }
    let mut engines = vec![Engine::Tcg, Engine::Interpreter];
    if guest.boot(Engine::Translator, "cryptomgr.notests").is_ok() {
        engines.push(Engine::Translator);
    }
    Ok(engines)
}

impl Engine {
    /// A guest of 256 MiB and one vCPU with ttyS0 on stdout, everything of it on one host CPU.
    pub fn command(self, kernel: &Path, initramfs: &Path, append: &str) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", CPU]);
        match self {
            Self::Tcg => {
                // Nehalem: no AVX, which ours doesn't offer either. vmlinux starts by PVH in both.
                command.args(["qemu-system-x86_64", "-nodefaults", "-no-user-config"]);
                command.args(["-M", "q35", "-accel", "tcg", "-cpu", "Nehalem", "-m", "256"]);
                command.args(["-display", "none", "-monitor", "none", "-serial", "stdio"]);
                command.args(["-no-reboot", "-kernel"]).arg(kernel).arg("-initrd").arg(initramfs);
                command.args(["-append", append]);
            }
            Self::Interpreter | Self::Translator => {
                let cpu = if self == Self::Translator { "soft,jit=on" } else { "soft" };
                command.arg(programs::folder().join("bulkhead")).args(["run", "--cpu", cpu]);
                command.args(["--memory", "256M", "--kernel"]).arg(kernel);
                command.arg("--initrd").arg(initramfs).args(["--append", append]);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }
}
