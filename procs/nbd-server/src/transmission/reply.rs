//! What completions come to.

use bulkhead_nbd::error::Error;
use bulkhead_nbd::reply::{
    Style, encode_data, encode_done, encode_error, encode_last, encode_status,
};
use bulkhead_ring::ArenaSpan;

use super::Transmission;
use crate::client::Gone;
use crate::desk::Desk;
use crate::judge::{Range, Task};
use crate::output::Output;
use crate::owner::{ClientDone, ClientPiece};
use crate::status;
use crate::work::{Work, wanted};

impl Transmission {
    /// A piece is over.
    pub fn finish(
        &mut self,
        done: ClientDone,
        output: &mut Output,
        desk: &mut Desk,
    ) -> Result<(), Gone> {
        let ClientDone { piece, span, status } = done;
        let slot = usize::from(piece.whose.request);
        self.ranges = self.ranges.saturating_sub(u32::from(piece.span() == 0));
        let Some(mut work) = self.works.get_mut(slot).and_then(Option::take) else {
            self.drop_span(span, desk);
            return Ok(());
        };
        work.left = work.left.saturating_sub(1);
        if status != 0 {
            work.failed.get_or_insert(Error::from_errno(status));
        }
        match work.task {
            Task::Read { range, whole: true } => {
                let span = if status == 0 { span } else { self.drop_span(span, desk) };
                work.ordered.arrived.insert(piece.offset, (piece.len, span));
                let passed = self.pass_on(&mut work, range, output, desk);
                if passed.is_err() {
                    // What has arrived behind the gap is given back with the client.
                    if let Some(place) = self.works.get_mut(slot) {
                        *place = Some(work);
                    }
                    return passed;
                }
            }
            Task::Read { range, whole: false } if status == 0 => {
                self.chunk(&work, range, piece, span, output, desk);
            }
            Task::Status { range, one, .. } if status == 0 => {
                self.tell_status(&mut work, range, one, piece, span, output, desk);
            }
            _ => {
                self.drop_span(span, desk);
            }
        }
        if work.is_whole() && work.left == 0 {
            if work.make_durable() {
                self.waiting.push_back(piece.whose.request);
            } else {
                self.conclude(&work, output);
                desk.completed += 1;
                self.free.push(piece.whose.request);
                return Ok(());
            }
        }
        if let Some(place) = self.works.get_mut(slot) {
            *place = Some(work);
        }
        Ok(self.cut_waiting(output, desk)?)
    }

    /// Gives a span back.
    fn drop_span(&mut self, span: Option<ArenaSpan>, desk: &mut Desk) -> Option<ArenaSpan> {
        if let Some(span) = span {
            self.share.give_back(&mut desk.pool, span.len());
            desk.link.release(Some(span));
        }
        None
    }

    /// Data of a read that may come in any order.
    fn chunk(
        &mut self,
        work: &Work,
        range: Range,
        piece: ClientPiece,
        span: Option<ArenaSpan>,
        output: &mut Output,
        desk: &mut Desk,
    ) {
        let Some(span) = span else { return };
        let (from, to) = wanted(range, piece.offset, piece.len);
        let last = work.is_whole() && work.left == 0 && work.failed.is_none();
        let (style, at) = (self.style, piece.offset + u64::from(from));
        output.write(|out| encode_data(out, style, work.to, at, to - from, last));
        output.push_data(desk.link.arena().clone(), span, from, to);
    }

    /// Data of a read that is one message: as far as nothing is missing in between.
    fn pass_on(
        &mut self,
        work: &mut Work,
        range: Range,
        output: &mut Output,
        desk: &mut Desk,
    ) -> Result<(), Gone> {
        let blocks = work.blocks;
        while let Some((len, span)) =
            work.ordered.arrived.remove(&(blocks.at + work.ordered.passed))
        {
            let offset = blocks.at + work.ordered.passed;
            work.ordered.passed += u64::from(len);
            let (from, to) = wanted(range, offset, len);
            let is_last = work.ordered.passed >= blocks.len;
            if !work.ordered.begun {
                // While nothing was sent, a failure can still be told.
                if work.failed.is_some() {
                    self.drop_span(span, desk);
                    continue;
                }
                work.ordered.begun = true;
                let (style, len) = (self.style, range.len as u32);
                output.write(|out| encode_data(out, style, work.to, range.at, len, is_last));
                work.answered = is_last || style == Style::Simple;
            }
            match span {
                Some(span) => output.push_data(desk.link.arena().clone(), span, from, to),
                // A simple reply has promised data that there is not.
                None if self.style == Style::Simple => {
                    return Err(Gone::Fault("a read failed half way".into()));
                }
                None => output.push_zeroes(to - from),
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one call, from the one place that has them all")]
    fn tell_status(
        &mut self,
        work: &mut Work,
        range: Range,
        one: bool,
        piece: ClientPiece,
        span: Option<ArenaSpan>,
        output: &mut Output,
        desk: &mut Desk,
    ) {
        let Some(span) = span else { return };
        let told = status::take(desk.link.arena(), &span);
        self.drop_span(Some(span), desk);
        let all: Vec<_> = self
            .contexts
            .iter()
            .map(|context| (context, status::extents(&told, piece.offset, range, *context, one)))
            .collect();
        if all.iter().any(|(_, extents)| extents.is_empty()) {
            work.failed.get_or_insert(Error::Io);
            return;
        }
        let (style, count) = (self.style, all.len());
        for (number, (context, extents)) in all.into_iter().enumerate() {
            let last = number + 1 == count;
            output.write(|out| encode_status(out, style, work.to, context.id(), &extents, last));
        }
        work.answered = true;
    }

    fn conclude(&self, work: &Work, output: &mut Output) {
        let (style, to) = (self.style, work.to);
        match (work.failed, work.task) {
            (Some(error), _) => {
                output.write(|out| encode_error(out, style, to, error, "the disk failed"));
            }
            (None, Task::Status { .. } | Task::Read { whole: false, .. }) => {}
            (None, Task::Read { .. }) if work.answered => {}
            (None, Task::Read { .. }) => output.write(|out| encode_last(out, style, to)),
            (None, _) => output.write(|out| encode_done(out, style, to)),
        }
    }
}
