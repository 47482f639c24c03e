//! `--cpu auto`: KVM or software, and why.
//!
//! Called by `run` with what the user wants besides. KVM is taken where it is the faster of the two: a
//! KVM without virtualisation behind it interprets its guests far more slowly than software does. So a
//! guest of one loop is run for a few milliseconds, here and not in the supervisor, which makes no
//! machines. `/dev/kvm` is opened with the user's own rights and closed again.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};

use bulkhead_hypervisor::kvm::probe::{self, ProbeError, Speeds};
use bulkhead_protocol::spec::EngineSpec;

use crate::options::software;

const KVM: &str = "/dev/kvm";

/// vCPUs that software has at most.
const MOST_IN_SOFTWARE: u32 = 8;

/// How much slower than the host itself software executes the probe's loop, as measured: by
/// `procs/soft-cpu/examples/mips.rs`.
const SLOWNESS: u64 = 3;

/// An engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub engine: EngineSpec,
    /// The choice and its reason, in a line.
    pub why: String,
}

impl Choice {
    fn kvm(reason: &str) -> Self {
        Self { engine: EngineSpec::Kvm, why: format!("cpu: kvm ({reason})") }
    }

    fn soft(reason: &str) -> Self {
        let engine = EngineSpec::Soft(software());
        Self { engine, why: format!("cpu: soft ({reason})") }
    }
}

/// Chooses for a machine of so many vCPUs.
pub fn auto(vcpus: u32) -> Choice {
    choose(vcpus, OpenOptions::new().read(true).write(true).open(KVM), measure)
}

fn measure(kvm: File) -> Result<Speeds, ProbeError> {
    probe::speeds(kvm.into())
}

fn choose(
    vcpus: u32,
    kvm: io::Result<File>,
    measure: impl FnOnce(File) -> Result<Speeds, ProbeError>,
) -> Choice {
    let kvm = match kvm {
        Ok(kvm) => kvm,
        Err(error) => return Choice::soft(&format!("{KVM}: {}", reason(&error))),
    };
    if vcpus > MOST_IN_SOFTWARE {
        return Choice::kvm(&format!("software has at most {MOST_IN_SOFTWARE} vCPUs"));
    }
    match measure(kvm) {
        Ok(speeds) => by_speed(speeds),
        Err(error) => Choice::soft(&format!("{KVM}: {error}")),
    }
}

fn by_speed(Speeds { guest, native }: Speeds) -> Choice {
    let software = native / SLOWNESS;
    let (kvm, soft) = (millions(guest), millions(software));
    let reason =
        format!("KVM here runs {kvm} million instructions a second, software about {soft}");
    if guest > software { Choice::kvm(&reason) } else { Choice::soft(&reason) }
}

/// Two digits of a number of millions.
fn millions(count: u64) -> u64 {
    let millions = count.div_ceil(1_000_000);
    let unit = 10u64.pow(millions.checked_ilog10().unwrap_or(0).saturating_sub(1));
    millions / unit * unit
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is none".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> io::Result<File> {
        File::open("/dev/null")
    }

    fn of_speed(guest: u64) -> String {
        choose(1, null(), |_| Ok(Speeds { guest, native: 9_600_000_000 })).why
    }

    #[test]
    fn the_faster_is_taken() {
        let interpreted = "cpu: soft (KVM here runs 2 million instructions a second, \
                           software about 3200)";
        assert_eq!(of_speed(2_000_000), interpreted);
        let real = "cpu: kvm (KVM here runs 9500 million instructions a second, \
                    software about 3200)";
        assert_eq!(of_speed(9_543_000_000), real);
    }

    #[test]
    fn software_is_taken_where_kvm_is_closed_missing_or_dumb() {
        let unused = |_| -> Result<Speeds, ProbeError> { panic!("there is nothing to measure") };
        let closed = choose(1, Err(ErrorKind::PermissionDenied.into()), unused);
        assert_eq!(closed.why, "cpu: soft (/dev/kvm: permission denied)");
        let missing = choose(16, Err(ErrorKind::NotFound.into()), unused);
        assert_eq!(missing.why, "cpu: soft (/dev/kvm: there is none)");
        let dumb = choose(1, null(), |_| Err(ProbeError::Silent));
        assert!(dumb.why.starts_with("cpu: soft (/dev/kvm: it does not come back"), "{}", dumb.why);
        assert_eq!(dumb.engine, EngineSpec::Soft(software()));
    }

    #[test]
    fn more_vcpus_than_software_has_are_kvms_whatever_its_speed() {
        let unused = |_| -> Result<Speeds, ProbeError> { panic!("there is nothing to choose") };
        let choice = choose(9, null(), unused);
        assert_eq!(
            (choice.engine, &*choice.why),
            (EngineSpec::Kvm, "cpu: kvm (software has at most 8 vCPUs)")
        );
    }
}
