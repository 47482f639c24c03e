//! One connection to an instance's control process.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, bail};
use bulkhead_channel::Channel;
use bulkhead_protocol::VERSION;
use bulkhead_protocol::control::{Request, Response};
use bulkhead_sys::clock::Deadline;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::refusal::refuse;
use crate::runtime_dir;

/// How long an answer may take: longer than the control process waits for its supervisor.
const DEADLINE: Duration = Duration::from_secs(12);

/// A connection that has said hello.
#[derive(Debug)]
pub struct Client(Channel);

impl Client {
    /// Connects to the instance `name`.
    pub fn connect(name: &str) -> anyhow::Result<Self> {
        let path = runtime_dir::path().join(name).join("control");
        let address = UnixAddr::new(&path).context("the runtime directory's path is too long")?;
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        if connect(socket.as_raw_fd(), &address).is_err() {
            let reason = "no such instance is running";
            return Err(refuse("NAME", name, reason, "see 'bulkhead ps' for those that are"));
        }
        let client = Self(Channel::from_fd(socket));
        match client.ask(&Request::Hello { version: VERSION })?.0 {
            Response::Done => Ok(client),
            Response::Refused(reason) => bail!("{name}: {reason}"),
            _ => bail!("{name}: its control process cannot be understood"),
        }
    }

    /// Asks one thing.
    pub fn ask(&self, request: &Request) -> anyhow::Result<(Response, Vec<OwnedFd>)> {
        self.0
            .call(request, &[], Deadline::after(DEADLINE))
            .context("the instance's control process does not answer")
    }

    /// Asks for something that has no other answer than done or refused.
    pub fn order(&self, request: &Request) -> anyhow::Result<()> {
        match self.ask(request)?.0 {
            Response::Done => Ok(()),
            Response::Refused(reason) => bail!("{reason}"),
            _ => bail!("the instance's control process cannot be understood"),
        }
    }

    /// The next answer to a request that has many; `None` when the instance has ended.
    pub fn next(&self) -> anyhow::Result<Option<Response>> {
        use bulkhead_channel::ChannelError;
        loop {
            let day = Deadline::after(Duration::from_secs(86_400));
            match self.0.receive_by::<Response>(day) {
                Ok((response, _)) => return Ok(Some(response)),
                Err(ChannelError::Deadline) => {}
                Err(ChannelError::Closed) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
