//! Landlock deny-all: no file, no TCP port, no abstract socket, no signal to the outside.
//!
//! Taken before the class makes its threads, because a domain covers the calling thread and those it
//! makes, and only kernels from ABI 8 on can extend it to threads that exist. It has to come after
//! the exec, which it would refuse.
//!
//! Rights are asked for up to the ABI that this was tested with; what an older kernel lacks is
//! reported by name, and the rest is enforced.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, Ruleset,
    RulesetAttr, Scope,
};

use crate::RuntimeError;

/// Newest ABI whose rights are asked for.
const TESTED: ABI = ABI::V7;

/// What was put in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walls {
    /// ABI of this kernel, at most [`TESTED`]; 0: it has no Landlock.
    pub abi: u32,
    /// Rights it cannot restrict, by name.
    pub missing: Vec<String>,
}

/// Denies everything to the calling thread and all that it makes.
pub fn deny_all() -> Result<Walls, RuntimeError> {
    let status = restrict().map_err(|error| RuntimeError::Landlock(error.to_string()))?;
    let abi = match status {
        LandlockStatus::Available { effective_abi, .. } => effective_abi,
        _ => ABI::Unsupported,
    };
    Ok(Walls { abi: abi as u32, missing: missing(abi) })
}

fn restrict() -> Result<LandlockStatus, landlock::RulesetError> {
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(TESTED))?
        .handle_access(AccessNet::from_all(TESTED))?
        .scope(Scope::from_all(TESTED))?
        .create()?
        .restrict_self()?;
    Ok(status.landlock)
}

fn missing(abi: ABI) -> Vec<String> {
    let mut names = lacking::<AccessFs>(abi);
    names.extend(lacking::<AccessNet>(abi));
    names.extend(lacking::<Scope>(abi));
    names
}

fn lacking<A>(abi: ABI) -> Vec<String>
where
    A: Access + std::fmt::Debug,
{
    let lost: BitFlags<A> = A::from_all(TESTED) & !A::from_all(abi);
    lost.iter().map(|right| format!("{right:?}")).collect()
}

/// Whether opening the root is refused for want of a right: proof that the domain is in force. It
/// tries what a sealed process never may, so it comes before the filter.
pub fn probe_is_refused() -> bool {
    let error = bulkhead_sys::probe::open_root().err();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_of_today_lacks_no_right_and_an_old_one_is_told_by_name() {
        assert!(missing(TESTED).is_empty());
        let old = missing(ABI::V3);
        for right in ["IoctlDev", "BindTcp", "ConnectTcp", "AbstractUnixSocket", "Signal"] {
            assert!(old.iter().any(|name| name == right), "{right} is not among {old:?}");
        }
    }

    #[test]
    fn a_thread_under_the_domain_can_open_nothing_and_its_threads_neither() {
        let (walls, own, child) = std::thread::spawn(|| {
            let before = probe_is_refused();
            assert!(!before);
            let walls = deny_all().unwrap();
            let child = std::thread::spawn(probe_is_refused).join().unwrap();
            (walls, probe_is_refused(), child)
        })
        .join()
        .unwrap();
        assert!(walls.abi == 0 || (own && child));
    }
}
