//! The TOML file of `bulkhead run vm.toml`: the options' names, disks as tables.
//!
//! It becomes options, so that there is one way from text to spec.

use std::path::Path;

use serde::Deserialize;

use super::keyed::nearest;
use crate::cli::RunOptions;
use crate::refusal::refuse;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct VmFile {
    name: Option<String>,
    kernel: Option<std::path::PathBuf>,
    initrd: Option<std::path::PathBuf>,
    append: Option<String>,
    cpu: Option<String>,
    cpus: Option<u32>,
    memory: Option<toml::Value>,
    console: Option<String>,
    serial: Option<String>,
    #[serde(default)]
    rng: bool,
    #[serde(default)]
    no_reboot: bool,
    on_crash: Option<String>,
    debug_exit: Option<toml::Value>,
    gdb: Option<toml::Value>,
    #[serde(default)]
    export: Vec<String>,
    shutdown_timeout: Option<f64>,
    #[serde(default)]
    allow_weaker_sandbox: Vec<String>,
    #[serde(default)]
    disk: Vec<toml::Table>,
}

const KEYS: &[&str] = &[
    "name",
    "kernel",
    "initrd",
    "append",
    "cpu",
    "cpus",
    "memory",
    "console",
    "serial",
    "rng",
    "no-reboot",
    "on-crash",
    "debug-exit",
    "gdb",
    "export",
    "shutdown-timeout",
    "allow-weaker-sandbox",
    "disk",
];

/// Fills what the options leave open from `path`.
pub fn merge(options: &mut RunOptions, path: &Path) -> anyhow::Result<()> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| refuse("FILE", &name, error.to_string(), "give a readable TOML file"))?;
    check_keys(&text, &name)?;
    let file: VmFile = toml::from_str(&text).map_err(|error| {
        refuse("FILE", &name, error.message().replace('\n', " "), "see 'bulkhead run --help'")
    })?;
    let disks = file.disk.iter().map(disk_text);
    options.disks = disks.chain(options.disks.drain(..)).collect();
    options.name = options.name.take().or(file.name);
    options.kernel = options.kernel.take().or(file.kernel);
    options.initrd = options.initrd.take().or(file.initrd);
    options.append = options.append.take().or(file.append);
    options.cpu = options.cpu.take().or(file.cpu);
    options.cpus = options.cpus.take().or(file.cpus.map(|cpus| cpus.to_string()));
    options.memory = options.memory.take().or(file.memory.as_ref().map(plain));
    options.console = options.console.take().or(file.console);
    options.serial = options.serial.take().or(file.serial);
    options.on_crash = options.on_crash.take().or(file.on_crash);
    options.debug_exit = options.debug_exit.take().or(file.debug_exit.as_ref().map(plain));
    options.gdb = options.gdb.take().or(file.gdb.as_ref().map(plain));
    let timeout = file.shutdown_timeout.map(|seconds| seconds.to_string());
    options.shutdown_timeout = options.shutdown_timeout.take().or(timeout);
    options.exports = file.export.into_iter().chain(options.exports.drain(..)).collect();
    options.rng |= file.rng;
    options.no_reboot |= file.no_reboot;
    options.weaker.extend(file.allow_weaker_sandbox);
    Ok(())
}

fn check_keys(text: &str, name: &str) -> anyhow::Result<()> {
    let Ok(table) = text.parse::<toml::Table>() else {
        return Ok(()); // The typed parse below says what is wrong, with its line.
    };
    match table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            Err(refuse("FILE", name, format!("'{key}' is not a key of it"), &nearest(key, KEYS)))
        }
    }
}

fn disk_text(table: &toml::Table) -> String {
    let part = |(key, value): (&String, &toml::Value)| match value {
        toml::Value::Boolean(switch) => format!("{key}={}", if *switch { "on" } else { "off" }),
        other => format!("{key}={}", plain(other).replace(',', ",,")),
    };
    table.iter().map(part).collect::<Vec<_>>().join(",")
}

fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
