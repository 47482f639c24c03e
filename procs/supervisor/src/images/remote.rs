//! An export on another program's NBD server: where that is, and the sockets by which block-layers reach it.
//!
//! Made by the plan, and for targets of jobs. Law: nobody waits here but in the plan, before the seal. After
//! it a connection is begun and handed on; whether somebody answers is found out by the block-layer.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_protocol::block::{
    KnownExport, LayerNumber, MOST_CONNECTIONS, MOST_SOCKETS, RemotePlan,
};
use bulkhead_protocol::block_control::MOST_ADDRESSES;
use bulkhead_protocol::nbd::{LONGEST_EXPORT, OwnCertificate, TlsClientPlan};
use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::{Address, ServerSpec, TlsClientSpec};

use crate::dial;
use crate::open::{Kind, find};
use crate::plan::read_pem;
use crate::refusal::{refuse, refuse_path};

/// How long the plan waits for each address.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two sockets, after the first one failed; each further time twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Longest time between two.
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A connection that lasted so long was a good one.
const GOOD: Duration = Duration::from_secs(1);

/// Longest delay in milliseconds: an hour.
const MOST_DELAY: u32 = 3_600_000;

#[derive(Debug)]
enum Place {
    Tcp(SocketAddr),
    Path { folder: OwnedFd, name: String },
}

/// See the module.
#[derive(Debug)]
pub struct Remote {
    places: Vec<Place>,
    plan: RemotePlan,
    /// For the next plan.
    socket: Option<OwnedFd>,
    /// Sockets since the last good connection.
    tries: u32,
    connected: Option<Instant>,
    lost: bool,
    /// Sockets that are asked for.
    pub wanted: u16,
}

impl Remote {
    /// Checks what a user says of a server. Nothing is connected.
    pub fn new(option: &str, uri: &Path, spec: &ServerSpec) -> Result<Self, Refusal> {
        let refused = |reason: &str, remedy: &str| refuse(option, uri.display(), reason, remedy);
        let many = spec.addresses.is_empty() || spec.addresses.len() > MOST_ADDRESSES;
        if many || !(1..=MOST_CONNECTIONS).contains(&spec.connections) {
            return Err(refused("it has no address, or too many", "give 1 to 16 connections"));
        }
        if spec.reconnect_delay_ms > MOST_DELAY {
            return Err(refused("nobody waits that long", "give at most reconnect-delay=3600"));
        }
        let plain =
            spec.export.len() <= LONGEST_EXPORT && !spec.export.chars().any(char::is_control);
        if !plain {
            let reason = format!("a name has at most {LONGEST_EXPORT} printable bytes");
            return Err(refused(&reason, "check the name of the export"));
        }
        let places = spec.addresses.iter().map(|address| place(option, address));
        let plan = RemotePlan {
            layer: 0,
            export: spec.export.clone(),
            tls: spec.tls.as_ref().map(|tls| read_tls(option, tls)).transpose()?,
            reconnect_delay_ms: spec.reconnect_delay_ms,
            connections: spec.connections,
            known: None,
        };
        let places = places.collect::<Result<_, _>>()?;
        Ok(Self { places, plan, socket: None, tries: 0, connected: None, lost: false, wanted: 0 })
    }

    /// Connects with the first address that answers. Only before the seal: it waits.
    pub fn connect(&mut self, option: &str, uri: &Path) -> Result<(), Refusal> {
        let mut last = None;
        for at in 0..self.places.len() {
            let dialled = self.places.get(at).map(dial_at);
            match dialled.map(|socket| dial::wait(socket?, PATIENCE)) {
                Some(Ok(socket)) => {
                    self.socket = Some(socket);
                    self.places.swap(0, at);
                    return Ok(());
                }
                Some(Err(error)) => last = Some(error),
                None => {}
            }
        }
        let why = last.map_or_else(String::new, |error| format!(": {error}"));
        let reason = format!("nobody answers there{why}");
        Err(refuse(option, uri.display(), reason, "check the server and its address"))
    }

    /// Begins a connection.
    pub fn dial(&mut self) -> io::Result<OwnedFd> {
        // Another address each time: whether somebody answers is known later.
        let first = self.tries as usize % self.places.len().max(1);
        self.tries = self.tries.saturating_add(1);
        let mut last = None;
        for place in self.places.iter().cycle().skip(first).take(self.places.len()) {
            match dial_at(place) {
                Ok(socket) => return Ok(socket),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }

    /// Sees that there is a socket for a plan. A server that cannot be reached now gives one that is closed
    /// already: the block-layer asks for another.
    pub fn prepare(&mut self) -> io::Result<()> {
        // What its predecessor wanted and had is forgotten with it.
        (self.wanted, self.connected) = (0, None);
        if self.socket.is_none() {
            let socket = match self.dial() {
                Ok(socket) => socket,
                Err(_) => bulkhead_sys::seqpacket::stream_pair()?.0,
            };
            self.socket = Some(socket);
        }
        Ok(())
    }

    /// The socket of the next plan.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// The plan was sent: its socket is the block-layer's alone, so that its death is seen.
    pub fn hand_over(&mut self) {
        self.socket = None;
    }

    /// What a block-layer is told of it.
    pub fn plan(&self, layer: LayerNumber) -> RemotePlan {
        RemotePlan { layer, ..self.plan.clone() }
    }

    /// How long the next socket is waited with.
    pub fn pause(&self) -> Duration {
        match self.tries.checked_sub(self.plan.connections.into()) {
            None => Duration::ZERO,
            Some(more) => FIRST_PAUSE.saturating_mul(1 << more.min(16)).min(LAST_PAUSE),
        }
    }

    /// A connection has come about; `true`: there was none for a while.
    pub fn connected(&mut self, export: KnownExport, now: Instant) -> bool {
        self.plan.known = Some(export);
        self.connected.get_or_insert(now);
        std::mem::take(&mut self.lost)
    }

    /// It is no more; `true`: that is news.
    pub fn disconnected(&mut self, now: Instant) -> bool {
        // One that breaks at once, again and again, is waited with longer and longer.
        let lasted = self.connected.take().map(|since| now.saturating_duration_since(since));
        if lasted.is_some_and(|lasted| lasted >= GOOD) {
            self.tries = 0;
        }
        !std::mem::replace(&mut self.lost, true)
    }

    /// How many sockets a block-layer may ask for at a time.
    pub fn most_wanted(&self) -> u16 {
        self.plan.connections
    }
}

/// Refuses a server more whose connections a disk's block-layer has no descriptors for. `others`: those that it may
/// have already.
pub fn refuse_too_many(option: &str, others: u16, spec: &ServerSpec) -> Result<(), Refusal> {
    let all = u32::from(others) + u32::from(spec.connections);
    if all <= u32::from(MOST_SOCKETS) {
        return Ok(());
    }
    let value = format!("connections={}", spec.connections);
    let reason = format!(
        "all layers and targets of the disk together would have {all} connections, and {MOST_SOCKETS} are the most"
    );
    Err(refuse(option, value, reason, "give fewer connections= to one of them"))
}

fn dial_at(place: &Place) -> io::Result<OwnedFd> {
    match place {
        Place::Tcp(address) => dial::dial_tcp(*address),
        Place::Path { folder, name } => dial::dial(folder, name),
    }
}

fn place(option: &str, address: &Address) -> Result<Place, Refusal> {
    let path = match address {
        Address::Tcp(address) => return Ok(Place::Tcp(*address)),
        Address::Path(path) => path,
    };
    let found = find(path).map_err(|error| refuse_path(option, path, &error))?;
    let name = path.file_name().and_then(|name| name.to_str());
    let (Kind::Socket, Some(name)) = (found.kind, name) else {
        let remedy = "name the server's socket: nbd+unix:///NAME?socket=PATH";
        return Err(refuse(option, path.display(), "it is no socket", remedy));
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = find(parent.unwrap_or(Path::new(".")));
    let folder = folder.map_err(|error| refuse_path(option, path, &error))?.into_fd();
    Ok(Place::Path { folder, name: name.to_owned() })
}

fn read_tls(option: &str, spec: &TlsClientSpec) -> Result<TlsClientPlan, Refusal> {
    let path = |name: &str| spec.folder.join(name);
    let chain = path("client-cert.pem");
    let own = match find(&chain) {
        Ok(_) => Some(OwnCertificate {
            chain: read_pem(option, &chain)?,
            key: read_pem(option, &path("client-key.pem"))?,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(refuse_path(option, &chain, &error)),
    };
    let authorities = read_pem(option, &path("ca-cert.pem"))?;
    Ok(TlsClientPlan { authorities, own, server: spec.hostname.clone() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn spec(path: &Path) -> ServerSpec {
        ServerSpec {
            addresses: vec![Address::Path(path.to_owned())],
            export: "disk".into(),
            tls: None,
            reconnect_delay_ms: 10_000,
            connections: 2,
        }
    }

    #[test]
    fn the_first_sockets_come_at_once_and_those_that_fail_later_and_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _server = UnixListener::bind(&path).unwrap();
        let mut remote = Remote::new("--disk d0", &path, &spec(&path)).unwrap();
        let mut pauses = Vec::new();
        for _ in 0..20 {
            pauses.push(remote.pause());
            remote.dial().unwrap();
        }
        assert_eq!(pauses[..4], [0, 0, 10, 20].map(Duration::from_millis));
        assert_eq!(pauses.last(), Some(&LAST_PAUSE));
        let now = Instant::now();
        remote.connected(KnownExport::default(), now);
        remote.disconnected(now);
        assert_eq!(remote.pause(), LAST_PAUSE, "it broke at once");
        remote.connected(KnownExport::default(), now);
        remote.disconnected(now + GOOD);
        assert_eq!(remote.pause(), Duration::ZERO);
    }

    #[test]
    fn a_server_that_is_away_gives_a_socket_that_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let mut remote = Remote::new("--disk d0", &path, &spec(&path)).unwrap();
        let refusal = remote.connect("--disk d0", &path).unwrap_err();
        assert!(refusal.reason.contains("nobody answers there"), "{refusal}");
        remote.prepare().unwrap();
        let socket = remote.socket().unwrap();
        let closed = bulkhead_sys::stream::receive(socket, &mut [0; 1]);
        assert_eq!(closed.unwrap(), 0);
    }

    #[test]
    fn a_path_that_is_no_socket_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "").unwrap();
        let refusal = Remote::new("--disk d0", &path, &spec(&path)).unwrap_err();
        assert!(refusal.reason.contains("no socket"), "{refusal}");
    }
}
