//! The launcher's side of a child's way into its jail.
//!
//! Nothing here waits for the child: [`Birth::begin`] lets it go, and its report pipe tells by
//! records and an end of file what became of it, so that one launcher serves several births at once.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use bulkhead_sys::birth::{Born, CloneInto, Standard, sibling};
use bulkhead_sys::process;

use crate::budget::Budget;
use crate::cgroup::{Cell, Hierarchy};
use crate::child::{Child, GO};
use crate::ids::Maps;
use crate::layer::{Layer, LayerState};
use crate::record::{self, Record, Step};

/// All that a child needs.
#[derive(Debug)]
pub struct Orders<'a> {
    /// Limits of its class.
    pub budget: &'static Budget,
    /// Arguments, the class's name first.
    pub arguments: Vec<CString>,
    /// The program.
    pub binary: BorrowedFd<'a>,
    /// Its descriptors 0 to 3.
    pub standard: Standard<'a>,
    /// CPUs it may run on; empty: as the launcher.
    pub cpus: &'a [usize],
    /// Uid and gid of its own, where the host allows one.
    pub own_uid: u32,
    /// Name of its control groups, unique within the instance.
    pub name: &'a str,
    /// Layers that may be missing.
    pub weaker: &'a [Layer],
}

/// Why a child could not be started.
#[derive(Debug)]
pub struct Failure {
    /// The process, if one came about: it ends by itself.
    pub born: Option<Born>,
    /// The layer that is missing, if that is why.
    pub layer: Option<Layer>,
    /// Why, in one sentence.
    pub reason: String,
    /// Its control groups, to be removed once it was reaped.
    pub cell: Cell,
}

/// What the report pipe had to say.
#[derive(Debug)]
pub enum Progress {
    /// It is still on its way.
    OnItsWay,
    /// It has exec'd, or is dead.
    Over,
}

/// A child on its way into its jail.
#[derive(Debug)]
pub struct Birth {
    born: Born,
    cell: Cell,
    uid: u32,
    report: PipeReader,
    missing: Vec<Record>,
    own_uid: LayerState,
    cgroup: LayerState,
}

impl Birth {
    /// Makes the child, maps its ids, puts it into its control groups and lets it go.
    pub fn begin(
        orders: &Orders<'_>,
        maps: &Maps,
        hierarchies: &[Hierarchy],
    ) -> Result<Self, Box<Failure>> {
        let (go, mut tell_go) = io::pipe().map_err(Failure::host)?;
        let (report, tell_report) = io::pipe().map_err(Failure::host)?;
        let launchers = [report.as_raw_fd(), tell_go.as_raw_fd()];
        let mut missing = Vec::new();
        let (into, born) = clone(orders.weaker, &mut missing, |into| {
            let report = File::from(OwnedFd::from(tell_report.try_clone()?));
            let go = File::from(OwnedFd::from(go.try_clone()?));
            let by_root = maps.by_root();
            let mut child = Child { orders, own_users: into.user, by_root, report };
            dumpable_sibling(into, move || child.live(go, launchers))
        })?;
        drop((go, tell_report));
        let (cell, cgroup) = Cell::make(hierarchies, orders.name, orders.budget);
        let mut birth = Self {
            uid: orders.own_uid,
            own_uid: LayerState::Enforced,
            born,
            cell,
            report,
            missing,
            cgroup,
        };
        if let Err((layer, error)) = birth.prepare(orders, maps, hierarchies, into) {
            return Err(birth.fail(Some(layer), error.to_string()));
        }
        match tell_go.write_all(&[GO]) {
            Ok(()) => Ok(birth),
            Err(error) => Err(birth.fail(None, format!("it died at once: {error}"))),
        }
    }

    fn prepare(
        &mut self,
        orders: &Orders<'_>,
        maps: &Maps,
        hierarchies: &[Hierarchy],
        into: CloneInto,
    ) -> Result<(), (Layer, io::Error)> {
        let pid = self.born.pid;
        if into.user {
            let identity = maps.write(pid, orders.own_uid);
            let identity = identity.map_err(|error| (Layer::UserNamespace, error))?;
            self.uid = identity.uid;
            self.own_uid = identity.state;
        } else if !maps.by_root() {
            self.uid = maps.uid();
            let why = "only root can give its processes other uids".to_owned();
            self.own_uid = LayerState::NotApplicable(why);
        }
        if let Err(error) = self.cell.join(hierarchies, pid) {
            self.cgroup = LayerState::NotApplicable(format!("cannot be joined: {error}"));
        }
        Ok(())
    }

    /// Takes what is on the report pipe. To be called when it is readable.
    pub fn progress(&mut self) -> Progress {
        let mut bytes = [0; record::SIZE * Layer::ALL.len()];
        match self.report.read(&mut bytes) {
            Ok(0) => Progress::Over,
            Ok(len) => {
                let records = bytes[..len].chunks(record::SIZE).filter_map(Record::decode);
                self.missing.extend(records);
                Progress::OnItsWay
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Progress::OnItsWay,
            Err(_) => Progress::Over,
        }
    }

    /// After [`Progress::Over`]: the process and its layers, or why there is none.
    pub fn finish(self) -> Result<Outcome, Box<Failure>> {
        if let Some(fatal) = self.missing.iter().find(|record| record.fatal).copied() {
            return Err(self.fail(fatal.layer, fatal.to_string()));
        }
        if !self.missing.iter().any(|record| record.step == Step::Exec) {
            return Err(self.fail(None, "it died on its way into the jail".to_owned()));
        }
        let layers = Layer::ALL.map(|layer| (layer, self.state(layer))).to_vec();
        Ok(Outcome { born: self.born, uid: self.uid, layers, cell: self.cell })
    }

    fn state(&self, layer: Layer) -> LayerState {
        let missing = self.missing.iter().find(|record| record.layer == Some(layer));
        match (layer, missing) {
            (_, Some(record)) => LayerState::Weakened(record.to_string()),
            (Layer::OwnUid, None) => self.own_uid.clone(),
            (Layer::Cgroup, None) => self.cgroup.clone(),
            _ => LayerState::Enforced,
        }
    }

    fn fail(self, layer: Option<Layer>, reason: String) -> Box<Failure> {
        Box::new(Failure { born: Some(self.born), layer, reason, cell: self.cell })
    }
}

/// A child that runs.
#[derive(Debug)]
pub struct Outcome {
    /// The process.
    pub born: Born,
    /// Uid as the host sees it.
    pub uid: u32,
    /// Every layer.
    pub layers: Vec<(Layer, LayerState)>,
    /// Its control groups, to be removed once it was reaped.
    pub cell: Cell,
}

impl AsFd for Birth {
    /// The report pipe.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

impl Failure {
    fn host(error: io::Error) -> Box<Self> {
        Box::new(Self { born: None, layer: None, reason: error.to_string(), cell: Cell::default() })
    }

    fn clone(born: Option<Born>, layer: Option<Layer>, error: &io::Error) -> Box<Self> {
        let reason = format!("{}: {error}", Step::Clone.words());
        Box::new(Self { born, layer, reason, cell: Cell::default() })
    }
}

/// Clones into a user and a pid namespace, or into as much of that as the user has allowed.
///
/// The kernel refuses both in one answer. Which one it was shows in what works without: a child that
/// came about like that is named in the failure and ends, as it is never told to go on.
fn clone(
    weaker: &[Layer],
    missing: &mut Vec<Record>,
    sibling: impl Fn(CloneInto) -> io::Result<Born>,
) -> Result<(CloneInto, Born), Box<Failure>> {
    let mut refusal = io::Error::from(io::ErrorKind::Unsupported);
    for into in ATTEMPTS {
        let left_out = left_out(into);
        let allowed = left_out.iter().all(|layer| weaker.contains(layer));
        match sibling(into) {
            Ok(born) if allowed => {
                let errno = refusal.raw_os_error().unwrap_or(0);
                missing.extend(left_out.into_iter().map(|layer| Record {
                    layer: Some(layer),
                    step: Step::Clone,
                    fatal: false,
                    errno,
                }));
                return Ok((into, born));
            }
            Ok(born) => {
                let layer = left_out.into_iter().find(|layer| !weaker.contains(layer));
                return Err(Failure::clone(Some(born), layer, &refusal));
            }
            Err(error) => refusal = error,
        }
    }
    Err(Failure::clone(None, None, &refusal))
}

/// What is tried, the strongest first.
const ATTEMPTS: [CloneInto; 4] = [
    CloneInto { user: true, pid: true },
    CloneInto { user: true, pid: false },
    CloneInto { user: false, pid: true },
    CloneInto { user: false, pid: false },
];

fn left_out(into: CloneInto) -> Vec<Layer> {
    let kept = [(into.user, Layer::UserNamespace), (into.pid, Layer::PidNamespace)];
    kept.into_iter().filter(|(kept, _)| !kept).map(|(_, layer)| layer).collect()
}

/// Clones while the launcher is dumpable, because the id maps of a process that is not belong to the
/// host's root, and an ordinary user could not write them. The child becomes not dumpable again
/// after its exec (`runtime`).
fn dumpable_sibling(into: CloneInto, live: impl FnOnce()) -> io::Result<Born> {
    process::allow_dumps()?;
    let born = sibling(into, live);
    process::forbid_dumps()?;
    born
}
