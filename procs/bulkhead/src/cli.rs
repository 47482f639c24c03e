//! The command line: what may be typed, and its help.
//!
//! Values are taken as text here and read by `options`, so that a value from a TOML file and one from
//! an option pass through the same checks.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str = "\
Exit codes:
  0  as asked (the guest powered off, was shut down, or the command succeeded)
  1  something failed on the way
  2  refused before anything was started: an option, a file or the host
  3  the guest crashed and --on-crash is stop";

const RUN_EXAMPLES: &str = "\
Examples:
  bulkhead run --kernel vmlinuz --append 'console=ttyS0 root=/dev/vda' --memory 512M \\
      --disk path=root.img,format=raw
  bulkhead run vm.toml --cpus 4
  bulkhead run vm.toml --cpu soft --on-crash pause
  bulkhead run --kernel vmlinuz --initrd initrd.img --rng --console stdio --dry-run

A TOML file has the same names:
  name = \"web\"
  kernel = \"vmlinuz\"
  append = \"console=ttyS0 root=/dev/vda\"
  memory = \"512M\"
  [[disk]]
  path = \"root.img\"
  format = \"raw\"

Exit codes:
  0  the guest powered off, or was shut down as asked
  1  something failed on the way
  2  refused before anything was started: an option, a file or the host
  3  the guest crashed and --on-crash is stop
  2·N+1 modulo 256  with --debug-exit: the guest wrote N to that port";

const STORAGE_EXAMPLES: &str = "\
Example:
  bulkhead storage --name s0 --disk id=d0,path=root.img,format=raw \\
      --export vhost-user-blk,disk=d0,socket=/run/s0.sock,queues=2
  bulkhead storage --disk id=d0,path=root.img,format=raw \\
      --export nbd,disk=d0,addr=127.0.0.1:10809,name=root

The socket appears when it is ready. SIGTERM and SIGINT end it with exit code 0.";

/// Virtual machines whose every device is a sealed process of its own.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, after_help = EXIT_CODES, subcommand_required = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a virtual machine
    Run(Box<RunOptions>),
    /// Serve disks to other programs by vhost-user or NBD, without a virtual machine
    Storage(StorageOptions),
    /// List instances and their processes
    Ps(PsOptions),
    /// Stop the vCPUs
    Pause(Target),
    /// Let the vCPUs run again
    Resume(Target),
    /// Press the power button, and end the VM if that does not help
    Shutdown(ShutdownOptions),
    /// Reset the machine
    Reset(Target),
    /// End an instance at once
    Kill(Target),
    /// Attach to a detached VM's console
    Console(Target),
    /// Follow events, one JSON line each
    Events(Target),
    /// Disks: snapshots, copies, jobs and bitmaps, while they are served
    Block(Box<crate::block::cli::BlockOptions>),
    /// Show what each process class may do
    Policy(PolicyOptions),
    /// Compare a running instance's processes with their manifests
    Audit(AuditOptions),
    /// Print a completion script for a shell
    Completions(CompletionOptions),
}

/// An instance by name.
#[derive(Debug, Args)]
pub struct Target {
    /// Name of the instance
    pub name: String,
}

/// Options of `run`.
#[derive(Debug, Default, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunOptions {
    /// A TOML file with the same names as the options; options win over it
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Kernel: PVH ELF, bzImage or multiboot
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Kernel command line
    #[arg(long, value_name = "TEXT")]
    pub append: Option<String>,
    /// vCPUs, 1 to 16 [default: 1]
    #[arg(long, value_name = "N")]
    pub cpus: Option<String>,
    /// What executes the guest: kvm; soft, which needs no virtualization and may be followed by ,jit=off
    /// and ,trace=FILE; or auto: kvm where it is the faster of the two [default: auto]
    #[arg(long, value_name = "ENGINE")]
    pub cpu: Option<String>,
    /// Guest memory, e.g. 512M or 4G [default: 512M]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// A disk: path=FILE,format=raw|qcow2[,readonly,id=ID,serial=TEXT,cache=none|writeback|unsafe,
    /// discard=on|off,queues=N,cpu=N,rerror=POLICY,werror=POLICY,delay=MS] or vhost-user=SOCKET[,id=ID]; a
    /// POLICY is report, ignore, stop or enospc. Below qcow2: backing=FILE,backing-format=raw|qcow2, backing2=…,
    /// or backing=auto, which follows the names in images that you trust. On an NBD server: nbd=URI in place of path=,
    /// with reconnect-delay=SECONDS,connections=N,tls-creds=DIR,tls-hostname=NAME. Of a raw file: offset=,size= (of the
    /// lowest backing file: base-offset=,base-size=). In front: copy-on-read=on, throttling.iops-total=N and
    /// QEMU's other limits, inject=write:EIO:after=2;flush:delay=100 to rehearse faults, verify=FILE to compare with
    /// a raw file. driver=null-co,size=1G: zeroes. May be given again
    #[arg(long = "disk", value_name = "KEY=VALUE,…")]
    pub disks: Vec<String>,
    /// Export a disk over NBD while the guest uses it, as with `storage`; may be given again
    #[arg(long = "export", value_name = "KEY=VALUE,…")]
    pub exports: Vec<String>,
    /// Add a virtio-console: stdio, pty, socket=PATH, file=PATH, or off
    #[arg(long, value_name = "WHERE")]
    pub console: Option<String>,
    /// Where ttyS0 goes: stdio, off or file=PATH [default: stdio unless the console is there]
    #[arg(long, value_name = "WHERE")]
    pub serial: Option<String>,
    /// Add a source of entropy (virtio-rng)
    #[arg(long)]
    pub rng: bool,
    /// Name of the VM [default: vm-PID]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Return once the VM runs; attach later by `bulkhead console NAME`
    #[arg(long)]
    pub detach: bool,
    /// A reset by the guest ends the VM
    #[arg(long)]
    pub no_reboot: bool,
    /// Add a port (4 wide) by which a test kernel ends the VM: a write of N is exit code 2·N+1 modulo
    /// 256, as with QEMU's isa-debug-exit [default of PORT: 0xf4]
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true, default_missing_value = "0xf4")]
    pub debug_exit: Option<String>,
    /// Let gdb connect: PORT of 127.0.0.1, ADDRESS:PORT or a socket's PATH; with ',wait' the guest does not
    /// run before gdb says so. Who connects owns the guest
    #[arg(long, value_name = "WHERE[,wait]")]
    pub gdb: Option<String>,
    /// When the guest crashes (a triple fault; in software also a halt with interrupts off): stop, reset or
    /// pause [default: stop]
    #[arg(long, value_name = "ACTION")]
    pub on_crash: Option<String>,
    /// Seconds the guest has to power off after SIGTERM [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub shutdown_timeout: Option<String>,
    /// Run even if this layer of the sandbox is missing (by name); may be given again
    #[arg(long = "allow-weaker-sandbox", value_name = "LAYER", value_delimiter = ',')]
    pub weaker: Vec<String>,
    /// Print the plan and start nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `storage`.
#[derive(Debug, Args)]
#[command(after_help = STORAGE_EXAMPLES)]
pub struct StorageOptions {
    /// Name of the instance [default: storage-PID]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// A disk: id=ID,path=FILE,format=raw|qcow2[,readonly,serial=TEXT,cache=none|writeback|unsafe,
    /// discard=on|off,cpu=N,rerror=POLICY,werror=POLICY,delay=MS] and backing files as with run; may be given again
    #[arg(long = "disk", value_name = "KEY=VALUE,…", required = true)]
    pub disks: Vec<String>,
    /// An export: vhost-user-blk,disk=ID,socket=PATH[,queues=N,readonly] or nbd,disk=ID,socket=PATH|
    /// addr=HOST:PORT[,name=NAME,description=TEXT,readonly,tls-creds=DIR,tls-verify=on|off]; may be given
    /// again
    #[arg(long = "export", value_name = "KEY=VALUE,…", required = true)]
    pub exports: Vec<String>,
    /// Run even if this layer of the sandbox is missing (by name); may be given again
    #[arg(long = "allow-weaker-sandbox", value_name = "LAYER", value_delimiter = ',')]
    pub weaker: Vec<String>,
    /// Print the plan and start nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `ps`.
#[derive(Debug, Args)]
pub struct PsOptions {
    /// Only this instance
    pub name: Option<String>,
    /// As a JSON array
    #[arg(long)]
    pub json: bool,
    /// With what the software CPU has counted
    #[arg(short, long)]
    pub verbose: bool,
}

/// Options of `shutdown`.
#[derive(Debug, Args)]
pub struct ShutdownOptions {
    /// Name of the instance
    pub name: String,
    /// Seconds the guest has before the VM is ended
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub timeout: String,
}

/// Options of `policy`.
#[derive(Debug, Args)]
pub struct PolicyOptions {
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// What of the policy.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// One class's manifest, or all of them
    Show {
        /// Process class, e.g. vhost-blk
        class: Option<String>,
        /// Form of the output
        #[arg(long, value_enum, default_value_t = Form::Text)]
        format: Form,
    },
    /// An overview for auditors: every class, its counts and its reasons
    Report {
        /// Form of the output
        #[arg(long, value_enum, default_value_t = Form::Markdown)]
        format: Form,
    },
}

/// Form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For a terminal
    Text,
    /// For a document
    Markdown,
    /// For a program
    Json,
}

/// Options of `audit`.
#[derive(Debug, Args)]
pub struct AuditOptions {
    /// Name of the instance
    pub name: String,
    /// Layers that were weakened on purpose are no deviation
    #[arg(long)]
    pub accept_weaker: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `completions`.
#[derive(Debug, Args)]
pub struct CompletionOptions {
    /// Shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Prints a completion script.
pub fn completions(options: &CompletionOptions) -> anyhow::Result<ExitCode> {
    let mut command = Arguments::command();
    clap_complete::generate(options.shell, &mut command, "bulkhead", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
