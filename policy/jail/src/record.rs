//! What a child tells its launcher on the report pipe: one record for each layer it could not have,
//! and one before its exec.
//!
//! Records are of one size and far below `PIPE_BUF`, so each arrives whole. The end of file after
//! the last is the exec: from then on a death is the program's.

use std::io;

use crate::layer::Layer;

/// Bytes of a record.
pub const SIZE: usize = 8;

/// No layer is at fault: the exec itself failed.
const NO_LAYER: u8 = u8::MAX;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Which layer is missing.
    pub layer: Option<Layer>,
    /// What was being done.
    pub step: Step,
    /// The child ends: the layer was not allowed to be missing.
    pub fatal: bool,
    /// The kernel's answer.
    pub errno: i32,
}

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident $words:literal,)*) => {
        /// A step of a child's way into its jail.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Step {
            $($(#[$doc])* $step,)*
        }

        impl Step {
            const ALL: &[Self] = &[$(Self::$step),*];

            /// The step in words.
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$step => $words,)*
                }
            }
        }
    };
}

steps! {
    /// Clone with a user or a pid namespace.
    Clone "clone into new namespaces",
    /// Take the ids of the user namespace.
    TakeIds "take the uid and gid of its user namespace",
    /// Take a mount, net, ipc, uts or cgroup namespace.
    Unshare "unshare",
    /// Cut the mounts off from the host's.
    Private "make the mounts private",
    /// Mount the empty root.
    MountRoot "mount an empty root",
    /// Change to it.
    Pivot "change to the empty root",
    /// Empty the bounding set.
    Bounds "empty the bounding set",
    /// Drop all capabilities.
    Drop "drop all capabilities",
    /// Forbid new privileges.
    NoNewPrivileges "forbid new privileges",
    /// Set a resource limit.
    Limit "set resource limits",
    /// Go to its CPUs.
    Affinity "go to the CPUs of its plan",
    /// Die with the supervisor.
    DieWithParent "die with the supervisor",
    /// Arrange its descriptors.
    Descriptors "arrange its descriptors",
    /// Become the program.
    Exec "exec",
}

impl Record {
    /// As bytes.
    pub fn encode(self) -> [u8; SIZE] {
        let layer = self.layer.map_or(NO_LAYER, Layer::code);
        let [a, b, c, d] = self.errno.to_le_bytes();
        [layer, self.step as u8, u8::from(self.fatal), 0, a, b, c, d]
    }

    /// From bytes. `None`: no record of ours.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [layer, step, fatal, _, errno @ ..] = bytes else {
            return None;
        };
        let layer = match *layer {
            NO_LAYER => None,
            code => Some(Layer::from_code(code)?),
        };
        Some(Self {
            layer,
            step: Step::ALL.iter().copied().find(|known| *known as u8 == *step)?,
            fatal: *fatal != 0,
            errno: i32::from_le_bytes(errno.try_into().ok()?),
        })
    }
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.step.words(), io::Error::from_raw_os_error(self.errno))
    }
}
