//! How much and how long: every bound that a client meets, with its reason.

use std::time::Duration;

/// Clients at a time. A newcomer takes the place of the one that has been negotiating for longest; if
/// none negotiates, it is turned away.
pub const MOST_CLIENTS: usize = 128;

/// A handshake takes a few round trips; whoever needs longer holds a place that others want.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// Options of one handshake. Clients of this field send fewer than ten.
pub const MOST_OPTIONS: u32 = 128;

/// Bytes of one option's data: an export's name and a handful of contexts' names, at their longest.
pub const LONGEST_OPTION: u32 = 32 << 10;

/// An option longer than [`LONGEST_OPTION`] is answered with an error and read past; one longer than this
/// ends the session.
pub const LONGEST_SKIP: u64 = 64 << 20;

/// Requests in flight of one client. What comes beyond waits in its socket.
pub const MOST_REQUESTS: usize = 64;

/// Longest payload, in both directions: what the protocol says a client may take for granted.
pub const MOST_PAYLOAD: u32 = 32 << 20;

/// Longest piece of a request that goes on the ring at once.
pub const PIECE: u64 = 256 << 10;

/// Pieces without data of one client that are on the ring at once: they need no arena, so that a few requests
/// about a large disk would take every entry.
pub const MOST_RANGES: u32 = 16;

/// Bytes of the arena that each client may hold whatever the others do. The shares of all are half of it.
pub const OWN_SHARE: u64 = 128 << 10;

/// Bytes of the arena that one client may hold if there are that many beyond all own shares.
pub const GREATEST_SHARE: u64 = 4 << 20;

/// Bytes that may wait in the UNIX socket of a client while block-layer reads the next ones. The kernel's
/// usual room is less than a request of those who copy disks.
pub const ROOM: usize = 512 << 10;

/// Clients that get it. The others make do with what is usual: it is memory that this process answers for.
pub const ROOMY_CLIENTS: usize = 8;

/// One piece that a client sends or takes may be under way for so long: less than 4 KiB a second is no
/// network.
pub const PIECE_TIME: Duration = Duration::from_secs(60);

/// Bytes of replies without data that may wait for a client before nothing more is read from it.
pub const MOST_OUTPUT: usize = 256 << 10;

/// Bytes of data that may wait for a client before nothing more is read for it from the disk: what a CPU's
/// caches do not hold any more when it is sent costs another way to memory.
pub const MOST_UNSENT: u64 = 512 << 10;

/// Requests that one client is served before the others get a turn.
pub const TURN: u32 = 32;

/// Pieces that go on the ring before block-layer is shown them. Few, so that server, block-layer and client
/// work at the same time; not one, so that each is woken for several.
pub const BATCH_PIECES: u32 = 8;

/// The same in bytes: what the CPU's caches still hold when it is sent.
pub const BATCH_BYTES: u64 = 512 << 10;

/// How often the clients' deadlines are looked at.
pub const SWEEP: Duration = Duration::from_secs(1);
