//! A server's export as storage: requests as the server takes them.

use bulkhead_nbd::answer::Asked;
use bulkhead_nbd::option::flag as export_flag;
use bulkhead_nbd::request::{Command, flag};

use super::Remote;
use super::reading::is_zero;
use super::requests::Question;
use crate::memory::{Heap, Memory};
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

/// Longest read and write that are asked for at once: every server takes them.
const PIECE: u64 = 4 << 20;

/// Longest range without data that is asked for at once.
const RANGE: u64 = 1 << 30;

/// Sectors: what aligned requests are multiples of at least.
const SECTOR: u64 = 512;

impl Remote {
    fn serves(&self, flag: u16) -> bool {
        self.0.export.get().is_some_and(|export| export.flags & flag != 0)
    }

    fn block(&self) -> u64 {
        self.0.export.get().map_or(1, |export| export.minimum.max(1).into())
    }

    fn bytes(&self) -> u64 {
        self.0.export.get().map_or(0, |export| export.size)
    }

    async fn command(&self, command: Command, offset: u64, len: u64, flags: u16) -> Outcome {
        let asked = Asked { command, offset, len };
        self.ask(Question { asked, flags, memory: None }).await.map(drop)
    }

    async fn transfer(&self, command: Command, at: u64, memory: &Memory) -> Outcome {
        let most = self.0.export.get().map_or(PIECE, |export| PIECE.min(export.maximum.into()));
        // A maximum is a multiple of the minimum: no piece has half a block.
        let piece = (most - most % self.block()).max(self.block());
        let mut done = 0;
        while done < memory.len() {
            let len = piece.min(memory.len() - done);
            let asked = Asked { command, offset: at + done, len };
            let memory = Some(memory.part(done, len));
            self.ask(Question { asked, flags: 0, memory }).await?;
            done += len;
        }
        Ok(())
    }

    /// The range that covers this one in whole blocks.
    fn whole(&self, at: u64, len: u64) -> (u64, u64) {
        let block = self.block();
        let start = at - at % block;
        let end = (at + len).next_multiple_of(block).min(self.bytes());
        (start, end.max(at + len))
    }

    async fn read_there(&self, at: u64, into: &Memory) -> Outcome {
        let (start, end) = self.whole(at, into.len());
        if (start, end) == (at, at + into.len()) {
            return self.transfer(Command::Read, at, into).await;
        }
        let whole = Memory::from(Heap::zeroes((end - start) as usize));
        self.transfer(Command::Read, start, &whole).await?;
        whole.part(at - start, into.len()).copy_into(into)
    }

    async fn write_there(&self, at: u64, from: &Memory) -> Outcome {
        let (start, end) = self.whole(at, from.len());
        // Where every writer has whole blocks nobody needs to keep away.
        let _held = match self.block() > SECTOR {
            true => Some(self.0.edges.hold(start..end).await),
            false => None,
        };
        if (start, end) == (at, at + from.len()) {
            return self.transfer(Command::Write, at, from).await;
        }
        let whole = Memory::from(Heap::zeroes((end - start) as usize));
        self.transfer(Command::Read, start, &whole).await?;
        from.copy_into(&whole.part(at - start, from.len()))?;
        self.transfer(Command::Write, start, &whole).await
    }

    async fn make_zero(&self, at: u64, len: u64, flags: u16) -> Outcome {
        self.inside(at, len)?;
        let (start, end) =
            (at.next_multiple_of(self.block()), (at + len) - (at + len) % self.block());
        let asks = self.serves(export_flag::SEND_WRITE_ZEROES) && start < end;
        let (start, end) = if asks { (start, end) } else { (at + len, at + len) };
        self.write_zeroes(at, start - at).await?;
        let mut next = start;
        while next < end {
            let piece = RANGE.min(end - next);
            self.command(Command::WriteZeroes, next, piece, flags).await?;
            next += piece;
        }
        self.write_zeroes(end, at + len - end).await
    }

    async fn write_zeroes(&self, at: u64, len: u64) -> Outcome {
        let zeroes = Memory::from(Heap::zeroes(len.min(PIECE / 4) as usize));
        let mut done = 0;
        while done < len {
            let piece = zeroes.part(0, len - done);
            self.write_there(at + done, &piece).await?;
            done += piece.len();
        }
        Ok(())
    }

    fn inside(&self, at: u64, len: u64) -> Outcome {
        match at.checked_add(len) {
            Some(end) if end <= self.bytes() => Ok(()),
            // As a block device says it.
            _ => Err(Failure::NO_SPACE),
        }
    }
}

impl Storage for Remote {
    async fn read(&self, at: u64, into: Memory) -> Outcome {
        let there = self.bytes().saturating_sub(at).min(into.len());
        if there < into.len() {
            into.part(there, into.len()).zero()?;
        }
        match there {
            0 => Ok(()),
            there => self.read_there(at, &into.part(0, there)).await,
        }
    }

    async fn write(&self, at: u64, from: Memory) -> Outcome {
        self.inside(at, from.len())?;
        self.write_there(at, &from).await
    }

    async fn zero(&self, at: u64, len: u64) -> Outcome {
        self.make_zero(at, len, 0).await
    }

    async fn zero_in_place(&self, at: u64, len: u64) -> Outcome {
        self.make_zero(at, len, flag::NO_HOLE).await
    }

    async fn discard(&self, at: u64, len: u64) -> Outcome {
        self.inside(at, len)?;
        let block = self.block();
        let (mut next, end) = (at.next_multiple_of(block), (at + len) - (at + len) % block);
        while next < end {
            let piece = RANGE.min(end - next);
            self.command(Command::Trim, next, piece, 0).await?;
            next += piece;
        }
        Ok(())
    }

    async fn sync(&self) -> Outcome {
        self.command(Command::Flush, 0, 0, 0).await
    }

    async fn reads_zero(&self, at: u64, len: u64) -> Result<(bool, u64), Failure> {
        let len = len.min(RANGE);
        let (start, end) = self.whole(at, len);
        let asked = Asked { command: Command::BlockStatus, offset: start, len: end - start };
        let question = Question { asked, flags: flag::REQ_ONE, memory: None };
        let extents = match self.ask(question).await {
            Ok(extents) => extents,
            // A server that cannot say is a server that has data.
            Err(_) => return Ok((false, len)),
        };
        let first = extents.first();
        let told = first.map_or(0, |extent| start.saturating_add(extent.len).saturating_sub(at));
        // Whole sectors: what else it says of less is not worth a request of its own.
        let told = if told >= len { len } else { told - told % SECTOR };
        match (first, told) {
            (Some(extent), 1..) => Ok((is_zero(extent.status), told)),
            (Some(_), 0) => Ok((false, SECTOR.min(len))),
            _ => Ok((false, len)),
        }
    }

    fn size(&self) -> Result<u64, Failure> {
        Ok(self.bytes())
    }

    fn grows(&self) -> bool {
        false
    }
}
