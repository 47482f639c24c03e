//! The measuring guest: its program compiled and packed, booted, listened to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::engine::Engine;

/// What both sides' kernels are told, beside what a row adds.
const APPEND: &str = "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check \
                      8250.nr_uarts=1";

/// What is started.
#[derive(Debug)]
pub struct Guest {
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
    /// How many.
    pub(super) vcpus: u32,
}

/// A boot to the marker.
#[derive(Debug, Clone, Copy)]
pub struct Boot {
    /// From the start of the command until the marker was read.
    pub seconds: f64,
}

impl Guest {
    /// Compiles the program and packs it as the only file of an initramfs.
    pub fn make(folder: &Path, vcpus: u32) -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let kernel = here.join("../../target/guest/vmlinux");
        if !kernel.exists() {
            bail!("{} is missing: run packaging/fetch-kernel.sh", kernel.display());
        }
        let tree = folder.join("tree");
        std::fs::create_dir(&tree)?;
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-static", "-o"]).arg(tree.join("init"));
        succeed(gcc.arg(here.join("guest/measure.c")))?;
        let pack = "echo init | cpio -o -H newc -R 0:0 --quiet >../initramfs";
        succeed(Command::new("sh").args(["-c", pack]).current_dir(&tree))?;
        Ok(Self { kernel, initramfs: folder.join("initramfs"), vcpus })
    }

    /// Boots to the marker; `append` goes to the kernel's command line.
    pub fn boot(&self, engine: Engine, append: &str) -> Result<Boot> {
        let begin = Instant::now();
        let mut seconds = None;
        self.run(engine, &format!("{append} measure=boot"), |line| {
            if line == "marker" {
                seconds = Some(begin.elapsed().as_secs_f64());
            }
        })?;
        Ok(Boot { seconds: seconds.context("the guest never said its marker")? })
    }

    /// Runs loops for so many seconds each; their rates.
    pub fn measure(
        &self,
        engine: Engine,
        rows: &[&str],
        seconds: f64,
    ) -> Result<BTreeMap<String, f64>> {
        let append = format!("cryptomgr.notests measure={} seconds={seconds}", rows.join(","));
        let mut rates = BTreeMap::new();
        self.run(engine, &append, |line| {
            let mut words = line.split_whitespace().skip_while(|word| *word != "row").skip(1);
            if let (Some(row), Some(Ok(rate))) = (words.next(), words.next().map(str::parse)) {
                rates.insert(row.to_owned(), rate);
            }
        })?;
        Ok(rates)
    }

    fn run(&self, engine: Engine, append: &str, mut hear: impl FnMut(&str)) -> Result<()> {
        let append = format!("{APPEND} {append}");
        let mut child = engine.command(self, &append).spawn()?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut done = false;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            let line = line.trim_end();
            done |= line == "done";
            hear(line);
        }
        let status = child.wait()?;
        if !status.success() || !done {
            bail!("{engine} ended with {status} before the guest was done");
        }
        Ok(())
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}
