//! `--export`: a disk for other programs.
//!
//! ```text
//!  vhost-user-blk,disk=ID,socket=PATH[,queues=N,readonly]
//!  nbd,disk=ID[,id=EXPORT],socket=PATH|addr=HOST:PORT[,name=NAME,description=TEXT,readonly,bitmap=NAME,tls-creds=DIR,tls-verify=on|off]
//! ```

use bulkhead_protocol::spec::{Address, DiskSpec, ExportSpec, NbdSpec, TlsSpec};

use super::gdb::tcp_address;
use super::keyed::{Keyed, nearest};
use crate::refusal::refuse;

const OPTION: &str = "--export";

const VHOST_USER: &[&str] = &["vhost-user-blk", "disk", "socket", "queues", "readonly"];

const NBD: &[&str] = &[
    "nbd",
    "id",
    "disk",
    "socket",
    "addr",
    "name",
    "description",
    "readonly",
    "bitmap",
    "tls-creds",
    "tls-verify",
    "tls-psk",
];

/// Either kind of export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Export {
    /// For vhost-user frontends.
    VhostUser(ExportSpec),
    /// For NBD clients.
    Nbd(NbdSpec),
}

impl Export {
    /// The disk that it names.
    pub fn disk(&self) -> &str {
        match self {
            Self::VhostUser(export) => &export.disk,
            Self::Nbd(export) => &export.disk,
        }
    }
}

/// Reads all exports of an instance with these disks.
pub fn all(texts: &[String], disks: &[DiskSpec]) -> anyhow::Result<Vec<Export>> {
    let mut exports = Vec::new();
    for text in texts {
        let export = parse(text)?;
        if !disks.iter().any(|disk| disk.id == export.disk()) {
            let ids: Vec<&str> = disks.iter().map(|disk| disk.id.as_str()).collect();
            let reason = format!("there is no disk '{}'", export.disk());
            return Err(refuse(OPTION, text, reason, &nearest(export.disk(), &ids)));
        }
        exports.push(export);
    }
    Ok(exports)
}

/// Reads one export.
pub fn parse(text: &str) -> anyhow::Result<Export> {
    match text.split([',', '=']).next() {
        Some("nbd") => nbd(text).map(Export::Nbd),
        Some("vhost-user-blk") => vhost_user(text).map(Export::VhostUser),
        _ => {
            let remedy = "begin it with nbd or vhost-user-blk";
            Err(refuse(OPTION, text, "the kind of export is missing", remedy))
        }
    }
}

fn vhost_user(text: &str) -> anyhow::Result<ExportSpec> {
    let mut keyed = Keyed::parse(OPTION, text, &[VHOST_USER])?;
    let queues = keyed.number("queues", 1, 16)?.unwrap_or(1);
    Ok(ExportSpec {
        disk: keyed.required("disk")?,
        socket: keyed.required("socket")?.into(),
        queues: u16::try_from(queues)?,
        read_only: keyed.switch("readonly")?,
    })
}

fn nbd(text: &str) -> anyhow::Result<NbdSpec> {
    let mut keyed = Keyed::parse(OPTION, text, &[NBD])?;
    let disk = keyed.required("disk")?;
    let listen = match (keyed.value("socket")?, keyed.value("addr")?) {
        (Some(path), None) => Address::Path(path.into()),
        (None, Some(address)) => match address.rsplit_once(':') {
            Some((host, port)) => tcp_address(OPTION, text, host, port)?,
            None => return Err(keyed.refuse("'addr' names no port", "write addr=HOST:PORT")),
        },
        (None, None) => {
            let reason = "it says not where clients connect";
            return Err(keyed.refuse(reason, "add socket=PATH or addr=HOST:PORT"));
        }
        (Some(_), Some(_)) => {
            let reason = "it has both a socket and an address";
            return Err(keyed.refuse(reason, "give one of the two, or two exports"));
        }
    };
    Ok(NbdSpec {
        id: keyed.value("id")?.unwrap_or_default(),
        name: keyed.value("name")?.unwrap_or_else(|| disk.clone()),
        disk,
        listen,
        description: keyed.value("description")?.unwrap_or_default(),
        read_only: keyed.switch("readonly")?,
        bitmap: keyed.value("bitmap")?,
        tls: tls(&mut keyed)?,
    })
}

fn tls(keyed: &mut Keyed) -> anyhow::Result<Option<TlsSpec>> {
    if keyed.value("tls-psk")?.is_some() {
        let reason = "there is no TLS with pre-shared keys";
        return Err(keyed.refuse(reason, "use certificates: tls-creds=DIR"));
    }
    let verify = keyed.choice("tls-verify")?;
    match (keyed.value("tls-creds")?, verify) {
        (Some(folder), verify) => {
            Ok(Some(TlsSpec { folder: folder.into(), verify: verify.unwrap_or(true) }))
        }
        (None, Some(true)) => {
            Err(keyed.refuse("'tls-verify' without certificates", "add tls-creds=DIR"))
        }
        (None, _) => Ok(None),
    }
}
