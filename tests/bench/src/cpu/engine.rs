//! The engines that take part, and the command that starts a guest on each.

use std::fmt;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use bulkhead_harness::programs;

use super::guest::Guest;

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
    /// A guest of 256 MiB with ttyS0 on stdout. With one vCPU everything of it runs on one host CPU,
    /// with more on all that there are.
    pub fn command(self, guest: &Guest, append: &str) -> Command {
        let vcpus = guest.vcpus.to_string();
        let last = match guest.vcpus {
            1 => 0,
            _ => std::thread::available_parallelism().map_or(0, |cpus| cpus.get() - 1),
        };
        let mut command = Command::new("taskset");
        command.args(["-c", &format!("0-{last}")]);
        match self {
            Self::Tcg => {
                // Nehalem: no AVX, which ours doesn't offer either. vmlinux starts by PVH in both.
                command.args(["qemu-system-x86_64", "-nodefaults", "-no-user-config"]);
                command.args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "Nehalem"]);
                command.args(["-m", "256", "-smp", &vcpus]);
                command.args(["-display", "none", "-monitor", "none", "-serial", "stdio"]);
                command.args(["-no-reboot", "-kernel"]).arg(&guest.kernel);
                command.arg("-initrd").arg(&guest.initramfs).arg("-append");
            }
            Self::Interpreter | Self::Translator => {
                let cpu = if self == Self::Translator { "soft,jit=on" } else { "soft,jit=off" };
                command.arg(programs::folder().join("bulkhead")).args(["run", "--cpu", cpu]);
                command.args(["--memory", "256M", "--cpus", &vcpus]);
                command.arg("--kernel").arg(&guest.kernel).arg("--initrd").arg(&guest.initramfs);
                command.arg("--append");
            }
        }
        command.arg(append);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }
}
