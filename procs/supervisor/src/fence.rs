//! The fence between a dead process of a disk and its successor.
//!
//! Called by the live instance, one for each disk, at every change of its two processes. A pure state
//! machine: it is told what happened and says what to send; it touches no descriptor.
//!
//! The *server* is the block-layer, the *client* the vhost-blk whose requests it performs. Rings carry
//! an incarnation; each number is handed to one client and one server at most.
//!
//! ```text
//! server:  Gone ─► Waiting ─plan─► Attached(n) ──client reaped──► Detaching ──Detached──► Detached
//!            ▲                        ▲                                                     │
//!            └── reaped, from any     └───────────────── new client, fresh rings ───────────┘
//!
//! client:  Gone ─► Waiting ─plan─► Attached(n) ─► Attached(n+1), when the server was replaced
//!            ▲                        │
//!            └──────── reaped ────────┘
//! ```
//!
//! Law: a client never gets rings while a server may still perform requests of the one before it.
//! Reaping a server ends its requests; reaping a client does not, so the server must say `Detached`.
//! Both dead: the server comes first.

/// Incarnation of a disk's rings.
pub type Incarnation = u64;

/// What to do. `Fresh` incarnations need new ring objects, made when the action is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make fresh rings of this incarnation; every later action of this number uses them.
    MakeRings(Incarnation),
    /// Send the waiting server its plan, with the rings.
    PlanServer(Incarnation),
    /// Send the waiting client its plan, with the rings.
    PlanClient(Incarnation),
    /// Tell the server to forget the dead client's rings.
    DetachServer,
    /// Give the server the rings of its next client.
    AttachServer(Incarnation),
    /// Tell the living client that its server was replaced.
    ReplaceClient(Incarnation),
    /// The client broke the ring's protocol: kill it for its own fault.
    CondemnClient,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Gone,
    Waiting,
    Attached { rings: Incarnation, used: bool },
    Detaching,
    Detached,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Gone,
    Waiting,
    Attached,
}

/// The fence of one disk.
#[derive(Debug)]
pub struct Fence {
    latest: Incarnation,
    server: Server,
    client: Client,
    /// The server has said what the disk is; no client can be planned before.
    disk_known: bool,
}

impl Fence {
    /// The fence of a disk whose processes are not started yet.
    pub fn new() -> Self {
        Self { latest: 0, server: Server::Gone, client: Client::Gone, disk_known: false }
    }

    /// The fence of a client that joins while others are served. `serving`: the server has its plan, which
    /// knows nothing of this client; `disk_known`: it has said what the disk is.
    pub fn joining(serving: bool, disk_known: bool) -> Self {
        let server = if serving { Server::Detached } else { Server::Gone };
        Self { latest: 0, server, client: Client::Gone, disk_known }
    }

    /// The client was reaped, and there is none after it.
    pub fn client_leaves(&mut self) -> Vec<Action> {
        match self.server {
            // Rings that nobody has used: of a client that never had its plan.
            Server::Attached { .. } => {
                self.server = Server::Detaching;
                vec![Action::DetachServer]
            }
            _ => Vec::new(),
        }
    }

    /// Whether no server has rings of this client.
    pub fn is_apart(&self) -> bool {
        matches!(self.server, Server::Gone | Server::Waiting | Server::Detached)
    }

    /// A server is attested and waits for its plan.
    pub fn server_waits(&mut self) -> Vec<Action> {
        self.server = Server::Waiting;
        self.advance()
    }

    /// A client is attested and waits for its plan.
    pub fn client_waits(&mut self) -> Vec<Action> {
        self.client = Client::Waiting;
        self.advance()
    }

    /// The server said what the disk is.
    pub fn disk_is_known(&mut self) -> Vec<Action> {
        self.disk_known = true;
        self.advance()
    }

    /// The server was reaped.
    pub fn server_reaped(&mut self) -> Vec<Action> {
        self.server = Server::Gone;
        Vec::new()
    }

    /// The client was reaped.
    pub fn client_reaped(&mut self) -> Vec<Action> {
        self.client = Client::Gone;
        match self.server {
            Server::Attached { used: true, .. } => {
                self.server = Server::Detaching;
                vec![Action::DetachServer]
            }
            _ => Vec::new(),
        }
    }

    /// The server says that nothing of the dead client's will touch the image any more.
    pub fn server_detached(&mut self) -> Vec<Action> {
        if self.server != Server::Detaching {
            return Vec::new();
        }
        self.server = Server::Detached;
        self.advance()
    }

    /// The server has detached its client because the client broke the ring's protocol.
    pub fn client_at_fault(&mut self) -> Vec<Action> {
        match self.server {
            Server::Attached { .. } => self.server = Server::Detached,
            // The order to detach crossed the message: it is answered all the same.
            _ => return Vec::new(),
        }
        match self.client {
            Client::Attached => vec![Action::CondemnClient],
            _ => self.advance(),
        }
    }

    fn advance(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.server == Server::Waiting {
            let rings = self.make_rings(&mut actions);
            actions.push(Action::PlanServer(rings));
            let used = self.client == Client::Attached;
            if used {
                actions.push(Action::ReplaceClient(rings));
            }
            self.server = Server::Attached { rings, used };
        }
        if self.client == Client::Waiting && self.disk_known {
            let rings = match self.server {
                Server::Attached { rings, used: false } => rings,
                Server::Detached => {
                    let rings = self.make_rings(&mut actions);
                    actions.push(Action::AttachServer(rings));
                    rings
                }
                _ => return actions,
            };
            actions.push(Action::PlanClient(rings));
            self.client = Client::Attached;
            self.server = Server::Attached { rings, used: true };
        }
        actions
    }

    fn make_rings(&mut self, actions: &mut Vec<Action>) -> Incarnation {
        self.latest += 1;
        actions.push(Action::MakeRings(self.latest));
        self.latest
    }
}

impl Default for Fence {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
