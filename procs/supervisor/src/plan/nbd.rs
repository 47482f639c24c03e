//! NBD exports: their listening sockets and certificates.
//!
//! Certificates and keys are read here and parsed by nbd-server, in its jail.

use std::io::Read;
use std::path::Path;

use bulkhead_protocol::nbd::{LONGEST_EXPORT, MOST_PEM, TlsPlan};
use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::{NbdSpec, TlsSpec};
use nix::fcntl::OFlag;

use super::{Disk, Door, Source};
use crate::open::{Kind, find};
use crate::refusal::{refuse, refuse_path};

/// Longest name by which an export is removed, as of everything that has one.
const LONGEST_ID: usize = bulkhead_protocol::block_control::LONGEST_NAME;

/// Most NBD exports of one disk.
pub const MOST_EXPORTS: usize = 8;

/// Most rings of one block-layer: the descriptors of its plan are one message.
pub const MOST_RINGS: usize = 16;

/// An NBD export of a disk.
#[derive(Debug)]
pub struct NbdExport {
    /// Its number among the consumers of its disk, which no other ever has.
    pub number: usize,
    /// By which it is removed; its process has it as well.
    pub id: String,
    /// Name by which clients ask for it.
    pub name: String,
    /// A line for people.
    pub description: String,
    /// Refuse writes.
    pub read_only: bool,
    /// A bitmap that clients may ask for.
    pub bitmap: Option<String>,
    /// Where clients knock.
    pub door: Door,
    /// What they must use.
    pub tls: Option<TlsPlan>,
}

/// Gives disks their NBD exports. `vm`: a guest uses each of the disks as well.
pub fn plan(specs: &[NbdSpec], disks: &mut [Disk], vm: bool, dry: bool) -> Result<(), Refusal> {
    for spec in specs {
        add(spec, disks, vm, dry)?;
    }
    Ok(())
}

/// Gives a disk one more; its place, and the export's number. Also while the disk is served.
pub fn add(
    spec: &NbdSpec,
    disks: &mut [Disk],
    vm: bool,
    dry: bool,
) -> Result<(usize, usize), Refusal> {
    let option = option(spec);
    let id = free_id(&option, spec, disks)?;
    let Some(at) = disks.iter().position(|disk| disk.id == spec.disk) else {
        let remedy = "give a --disk of this id";
        return Err(refuse(option, &spec.disk, "there is no such disk", remedy));
    };
    let Some(disk) = disks.get_mut(at) else {
        return Ok((at, 0));
    };
    if matches!(disk.source, Source::Foreign(_)) {
        let reason = "another program's backend cannot be exported";
        return Err(refuse(option, &spec.disk, reason, "give an image by path="));
    }
    if disk.nbd.len() >= MOST_EXPORTS {
        let reason = format!("a disk has at most {MOST_EXPORTS} NBD exports");
        return Err(refuse(option, &spec.disk, reason, "let clients share one"));
    }
    let has_queues = vm || disk.export.is_some();
    let queues = if has_queues { usize::from(disk.queues()) } else { 0 };
    if queues + disk.nbd.len() >= MOST_RINGS {
        let reason = format!("its {queues} queues leave no room for it");
        let remedy = "give the disk fewer by queues=";
        return Err(refuse(option, &spec.disk, reason, remedy));
    }
    let number = disk.exports_made + 1;
    let export = NbdExport::plan(&option, number, id, spec, dry)?;
    disk.exports_made = number;
    disk.nbd.push(export);
    Ok((at, number))
}

/// The name that was given, or the disk's with a number that nobody has.
fn free_id(option: &str, spec: &NbdSpec, disks: &[Disk]) -> Result<String, Refusal> {
    let taken = |id: &str| disks.iter().flat_map(|disk| &disk.nbd).any(|export| export.id == id);
    let wanted = spec.id.as_str();
    if wanted.len() > LONGEST_ID || wanted.chars().any(char::is_control) {
        let reason = format!("a name has at most {LONGEST_ID} printable bytes");
        return Err(refuse(option, format!("id={wanted}"), reason, "choose another"));
    }
    if taken(wanted) {
        let remedy = "choose another by id=";
        return Err(refuse(option, format!("id={wanted}"), "an export has this name", remedy));
    }
    if !wanted.is_empty() {
        return Ok(wanted.to_owned());
    }
    let numbered = (2..).map(|number| format!("{}-{number}", spec.disk));
    let mut names = std::iter::once(spec.disk.clone()).chain(numbered);
    Ok(names.find(|name| !taken(name)).unwrap_or_default())
}

impl NbdExport {
    fn plan(
        option: &str,
        number: usize,
        id: String,
        spec: &NbdSpec,
        dry: bool,
    ) -> Result<Self, Refusal> {
        for text in [&spec.name, &spec.description].into_iter().chain(&spec.bitmap) {
            if text.len() > LONGEST_EXPORT || text.chars().any(char::is_control) {
                let reason = format!("a name has at most {LONGEST_EXPORT} printable bytes");
                return Err(refuse(option, text, reason, "choose another"));
            }
        }
        Ok(Self {
            number,
            id,
            name: spec.name.clone(),
            description: spec.description.clone(),
            read_only: spec.read_only,
            bitmap: spec.bitmap.clone(),
            tls: spec.tls.as_ref().map(|tls| read_tls(option, tls)).transpose()?,
            door: Door::bind(option, &spec.listen, dry)?,
        })
    }
}

/// As refusals name it.
pub fn option(spec: &NbdSpec) -> String {
    format!("--export nbd,disk={}", spec.disk)
}

fn read_tls(option: &str, spec: &TlsSpec) -> Result<TlsPlan, Refusal> {
    let read = |name: &str| read_pem(option, &spec.folder.join(name));
    Ok(TlsPlan {
        chain: read("server-cert.pem")?,
        key: read("server-key.pem")?,
        clients: spec.verify.then(|| read("ca-cert.pem")).transpose()?,
    })
}

/// A file of certificates or a key, as it is.
pub fn read_pem(option: &str, path: &Path) -> Result<Vec<u8>, Refusal> {
    let host = |error: std::io::Error| refuse_path(option, path, &error);
    let found = find(path).map_err(host)?;
    if found.kind != Kind::File || found.len() > MOST_PEM as u64 {
        let reason = format!("it is no file of at most {} KiB", MOST_PEM >> 10);
        return Err(refuse(option, path.display(), reason, "give one certificate's chain alone"));
    }
    let file = std::fs::File::from(found.open(OFlag::O_RDONLY).map_err(host)?);
    let mut bytes = Vec::new();
    file.take(MOST_PEM as u64).read_to_end(&mut bytes).map_err(host)?;
    Ok(bytes)
}
