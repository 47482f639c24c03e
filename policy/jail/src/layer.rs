//! The layers of a jail, and what became of each.

/// One layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// User namespace.
    UserNamespace,
    /// Pid namespace.
    PidNamespace,
    /// Mount namespace and empty root.
    MountNamespace,
    /// Network namespace.
    NetNamespace,
    /// IPC namespace.
    IpcNamespace,
    /// UTS namespace.
    UtsNamespace,
    /// Cgroup namespace.
    CgroupNamespace,
    /// A uid of its own (conditional).
    OwnUid,
    /// Limits of a control group (conditional).
    Cgroup,
    /// All capabilities dropped, bounding set empty.
    Capabilities,
    /// `no_new_privs`.
    NoNewPrivileges,
    /// Resource limits.
    Limits,
}

impl Layer {
    /// Every layer that a launcher puts in force.
    pub const ALL: [Self; 12] = [
        Self::UserNamespace,
        Self::PidNamespace,
        Self::MountNamespace,
        Self::NetNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::CgroupNamespace,
        Self::OwnUid,
        Self::Cgroup,
        Self::Capabilities,
        Self::NoNewPrivileges,
        Self::Limits,
    ];

    /// The name users write.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserNamespace => "user-namespace",
            Self::PidNamespace => "pid-namespace",
            Self::MountNamespace => "mount-namespace",
            Self::NetNamespace => "net-namespace",
            Self::IpcNamespace => "ipc-namespace",
            Self::UtsNamespace => "uts-namespace",
            Self::CgroupNamespace => "cgroup-namespace",
            Self::OwnUid => "own-uid",
            Self::Cgroup => "cgroup",
            Self::Capabilities => "capabilities",
            Self::NoNewPrivileges => "no-new-privileges",
            Self::Limits => "limits",
        }
    }

    /// The layer of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layer| layer.name() == name)
    }

    /// Its number in a [`crate::record::Record`].
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// The layer of that number.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|layer| layer.code() == code)
    }
}

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerState {
    /// In force.
    Enforced,
    /// Conditional on this host, and the condition does not hold.
    NotApplicable(String),
    /// Missing, which the user has allowed by name.
    Weakened(String),
}
