//! A server for tests: a thread at the other end of a socket that answers as it was told.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use bulkhead_nbd::context;
use bulkhead_nbd::handshake::{self, OPTION_HEADER, OptionHeader, Refusal, ReplyKind};
use bulkhead_nbd::option::{Info, OptionCode, flag};
use bulkhead_nbd::reply::{self, Addressee, Style};
use bulkhead_nbd::request::{self, Command, Request};

/// Bytes of the export.
pub const BYTES: u64 = 1 << 20;

/// What is sent in answer to a request; none: it hangs up.
pub type Answers = Box<dyn FnMut(Style, Request, &[u8]) -> Option<Vec<u8>> + Send>;

pub struct Server {
    pub style: Style,
    pub minimum: u32,
    /// It offers `base:allocation`.
    pub tells_holes: bool,
    pub answers: Answers,
}

impl Server {
    pub fn new(answers: Answers) -> Self {
        Self { style: Style::Structured, minimum: 1, tells_holes: false, answers }
    }

    /// Starts it; the client's end of its socket.
    pub fn run(self) -> OwnedFd {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // It ends with its client.
        std::thread::spawn(move || drop(self.serve(ours)));
        theirs.into()
    }

    fn serve(mut self, mut client: UnixStream) -> std::io::Result<()> {
        client.write_all(&handshake::greeting())?;
        client.read_exact(&mut [0; 4])?;
        while !self.option(&mut client)? {}
        let extended = self.style == Style::Extended;
        loop {
            let mut header = [0; request::EXTENDED];
            let len = if extended { request::EXTENDED } else { request::COMPACT };
            client.read_exact(&mut header[..len])?;
            let request = match extended {
                true => Request::decode_extended(&header),
                false => Request::decode_compact(header.first_chunk().unwrap()),
            };
            let request = request.unwrap();
            let mut payload = Vec::new();
            if request.command == Command::Write.code() {
                payload.resize(request.len as usize, 0);
                client.read_exact(&mut payload)?;
            }
            let Some(answer) = (self.answers)(self.style, request, &payload) else {
                return Ok(());
            };
            client.write_all(&answer)?;
        }
    }

    /// Answers one option; `true`: the handshake is over.
    fn option(&self, client: &mut UnixStream) -> std::io::Result<bool> {
        let mut header = [0; OPTION_HEADER];
        client.read_exact(&mut header)?;
        let OptionHeader { code, len } = OptionHeader::decode(&header).unwrap();
        client.read_exact(&mut vec![0; len as usize])?;
        let option = OptionCode::from_code(code).unwrap();
        let mut out = Vec::new();
        let able = match option {
            OptionCode::ExtendedHeaders => self.style == Style::Extended,
            OptionCode::StructuredReply => self.style == Style::Structured,
            _ => true,
        };
        if option == OptionCode::Go {
            let flags = flag::HAS_FLAGS | flag::SEND_FLUSH | flag::SEND_WRITE_ZEROES;
            let sizes =
                Info::BlockSize { minimum: self.minimum, preferred: 4096, maximum: 1 << 16 };
            for info in [Info::Export { size: BYTES, flags }, sizes] {
                handshake::encode_reply(&mut out, code, ReplyKind::Info, &info.encode());
            }
        }
        if option == OptionCode::SetMetaContext && self.tells_holes {
            let context = [&1_u32.to_be_bytes()[..], context::ALLOCATION.as_bytes()].concat();
            handshake::encode_reply(&mut out, code, ReplyKind::MetaContext, &context);
        }
        let kind = if able { ReplyKind::Ack } else { ReplyKind::Error(Refusal::Unsupported) };
        handshake::encode_reply(&mut out, code, kind, &[]);
        client.write_all(&out)?;
        Ok(option == OptionCode::Go)
    }
}

/// A server that keeps what it is given.
pub fn honest() -> Answers {
    let mut disk = vec![0; BYTES as usize];
    Box::new(move |style, request, payload| {
        let Request { cookie, offset, len, .. } = request;
        let (start, end) = (offset as usize, (offset + len) as usize);
        let to = Addressee { cookie, offset };
        let mut out = Vec::new();
        match Command::from_code(request.command)? {
            Command::Read => {
                reply::encode_data(&mut out, style, to, offset, len as u32, true);
                out.extend(&disk[start..end]);
            }
            Command::Write => {
                disk[start..end].copy_from_slice(payload);
                reply::encode_done(&mut out, style, to);
            }
            Command::WriteZeroes => {
                disk[start..end].fill(0);
                reply::encode_done(&mut out, style, to);
            }
            Command::Disconnect => return None,
            _ => reply::encode_done(&mut out, style, to),
        }
        Some(out)
    })
}
