//! The guest's byte streams: ttyS0 and the virtio-console.
//!
//! A stream is the user's, handed over by the session, or it ends in a sink that keeps its output for
//! later viewers. The guest's end stays here, so that a restarted process finds the same stream.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_protocol::sink::SinkCommand;
use bulkhead_sys::seqpacket::stream_pair;

use super::Instance;
use super::token::PostIndex;

/// Bytes of output that a sink keeps.
const HISTORY: u32 = 64 << 10;

/// Number of a stream.
pub const SERIAL: usize = 0;
/// Number of a stream.
pub const CONSOLE: usize = 1;

/// One stream.
#[derive(Debug)]
pub struct Stream {
    guest: OwnedFd,
    /// The sink's end; none if the stream is the user's.
    sink: Option<OwnedFd>,
    /// Post of its sink.
    pub post: Option<PostIndex>,
}

impl Stream {
    /// The user's stream, or one for a sink.
    pub fn new(users: Option<OwnedFd>) -> std::io::Result<Self> {
        let (guest, sink) = match users {
            Some(guest) => (guest, None),
            None => {
                let (guest, sink) = stream_pair()?;
                (guest, Some(sink))
            }
        };
        Ok(Self { guest, sink, post: None })
    }

    /// Whether a sink keeps its output.
    pub fn is_kept(&self) -> bool {
        self.sink.is_some()
    }
}

/// The streams of an instance; none for storage.
#[derive(Debug, Default)]
pub struct Streams {
    /// Indexed by [`SERIAL`] and [`CONSOLE`].
    pub all: Vec<Stream>,
    /// Where soft-cpu tells what it executes, until it has it.
    pub trace: Option<OwnedFd>,
}

impl Streams {
    /// Core's end of ttyS0.
    pub fn serial(&self) -> Option<BorrowedFd<'_>> {
        self.all.get(SERIAL).map(|stream| stream.guest.as_fd())
    }

    /// vhost-console's end of the console.
    pub fn console(&self) -> Option<BorrowedFd<'_>> {
        self.all.get(CONSOLE).map(|stream| stream.guest.as_fd())
    }

    /// Post of the sink that a viewer is shown: the console's, or ttyS0's if there is none.
    pub fn viewed(&self) -> Option<PostIndex> {
        self.all.iter().rev().find_map(|stream| stream.post)
    }
}

impl Instance {
    /// Hands a sink its plan.
    pub(super) fn plan_sink(&mut self, post: PostIndex, stream: usize) {
        let sink = self.streams.all.get(stream).and_then(|stream| stream.sink.as_ref());
        let (Some(sink), Some(place)) = (sink, self.posts.get_mut(post)) else {
            return;
        };
        let command = SinkCommand::Plan { history: HISTORY };
        if let Some(process) = place.process_mut() {
            let _ = process.command(command, &[sink.as_fd()]);
        }
        self.was_planned(post);
    }

    /// A new viewer's end of a stream that the sink serves; `None` if there is no sink that does.
    pub(super) fn new_viewer(&mut self) -> std::io::Result<Option<OwnedFd>> {
        let Some(post) = self.streams.viewed() else {
            return Ok(None);
        };
        let Some(process) = self.posts.get_mut(post).and_then(|post| post.planned_mut()) else {
            return Ok(None);
        };
        let (viewer, sinks) = stream_pair()?;
        let sent = process.command(SinkCommand::Viewer, &[sinks.as_fd()]);
        self.watch_room(post);
        Ok(sent.is_ok().then_some(viewer))
    }
}
