//! Why a kernel cannot be started: one sentence each, for the user.

use bulkhead_memory::{AccessError, OutOfRange};

/// The reason. Except for the last two, the files or options that the user named are to blame.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// None of the three formats.
    #[error("not a kernel: neither ELF with a PVH note, nor bzImage, nor multiboot")]
    NotAKernel,
    /// A 32-bit ELF file that does not say how it is started.
    #[error("not a kernel: a 32-bit ELF file without a multiboot header")]
    NoMultiboot,
    /// A multiboot kernel that cannot have what it insists on.
    #[error(
        "the kernel's multiboot header demands {demand} (flags {bits:#x}), which is not offered"
    )]
    MultibootDemand {
        /// In words.
        demand: &'static str,
        /// The flags.
        bits: u32,
    },
    /// ELF, but no x86 executable.
    #[error("not a kernel: an ELF file, but no x86 executable")]
    ForeignElf,
    /// ELF, but without the entry that we use.
    #[error("not a kernel: an ELF file without a PVH note (a kernel built without CONFIG_PVH?)")]
    NoPvhNote,
    /// A bzImage that cannot be started in 64-bit mode.
    #[error("the bzImage has no 64-bit entry (boot protocol {}.{:02}, 2.12 and CONFIG_X86_64 needed)", version >> 8, version & 0xff)]
    No64BitEntry {
        /// Boot protocol version.
        version: u16,
    },
    /// The numbers in the file contradict each other or the file.
    #[error("the {what} is damaged: {fault}")]
    Damaged {
        /// Which file.
        what: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// RAM ends before the kernel does.
    #[error("the kernel needs {} MiB of RAM, the machine has {} MiB", mebibytes(*needed), ram >> 20)]
    KernelDoesNotFit {
        /// First byte that it does not need.
        needed: u64,
        /// End of low RAM.
        ram: u64,
    },
    /// There is no room for the initrd.
    #[error("the initrd has {size} bytes, but there is room for {room} beside the kernel")]
    InitrdDoesNotFit {
        /// Its length.
        size: u64,
        /// Room there is.
        room: u64,
    },
    /// The command line is too long or not text.
    #[error("the kernel's command line has {len} bytes, it takes {most}")]
    CommandLineTooLong {
        /// Its length.
        len: usize,
        /// What it may be.
        most: usize,
    },
    /// A zero byte would end it early.
    #[error("the kernel's command line contains a zero byte")]
    CommandLineCut,
    /// Not even the boot data fit.
    #[error("a machine with {} KiB of RAM cannot boot, it needs at least {} KiB", ram >> 10, least >> 10)]
    TooLittleRam {
        /// RAM at address 0.
        ram: u64,
        /// What it has to be.
        least: u64,
    },
    /// The file cannot be read.
    #[error("the {what} cannot be read: {error}")]
    Unreadable {
        /// Which file.
        what: &'static str,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// We wrote where no RAM is.
    #[error("bug: boot data outside of RAM: {0}")]
    Outside(#[from] OutOfRange),
    /// We wrote past the end of a piece of RAM.
    #[error("bug: boot data outside of RAM: {0}")]
    Access(#[from] AccessError),
}

/// Rounded up: so much is enough.
fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

impl BootError {
    /// The option of `bulkhead run` that would have to change.
    pub fn option(&self) -> &'static str {
        match self {
            Self::NotAKernel
            | Self::ForeignElf
            | Self::NoPvhNote
            | Self::NoMultiboot
            | Self::MultibootDemand { .. }
            | Self::No64BitEntry { .. } => "--kernel",
            Self::KernelDoesNotFit { .. } | Self::TooLittleRam { .. } => "--memory",
            Self::InitrdDoesNotFit { .. } => "--initrd",
            Self::CommandLineTooLong { .. } | Self::CommandLineCut => "--append",
            Self::Damaged { what, .. } | Self::Unreadable { what, .. } if *what == "initrd" => {
                "--initrd"
            }
            Self::Damaged { .. } | Self::Unreadable { .. } => "--kernel",
            Self::Outside(_) | Self::Access(_) => "--kernel",
        }
    }

    /// What the user can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotAKernel | Self::ForeignElf | Self::NoPvhNote | Self::No64BitEntry { .. } => {
                "give a bzImage (/boot/vmlinuz-…) or an x86-64 vmlinux built with CONFIG_PVH"
            }
            Self::NoMultiboot => "give a kernel of 64 bits, or one with a multiboot header",
            Self::MultibootDemand { .. } => "build it without that flag",
            Self::KernelDoesNotFit { .. } | Self::TooLittleRam { .. } => {
                "give the machine more RAM"
            }
            Self::InitrdDoesNotFit { .. } => "give the machine more RAM or a smaller initrd",
            Self::CommandLineTooLong { .. } => "shorten it",
            Self::CommandLineCut => "remove it",
            Self::Damaged { .. } => "give an undamaged file",
            Self::Unreadable { .. } => "give a readable regular file",
            Self::Outside(_) | Self::Access(_) => "report this",
        }
    }
}
