//! The way of a request: taken, cut, copied, submitted, completed, answered.

use bulkhead_backend_kit::{LiveQueue, Taken, Token};
use bulkhead_block_client::{Done, LinkFault, Piece};
use bulkhead_memory::{AccessError, GuestMemory};
use bulkhead_protocol::block_ring::{FLAG_FUA, Operation};
use bulkhead_ring::{Arena, ArenaSpan, OutOfArena};
use bulkhead_virtqueue::{Chain, Scatter, ScatterError};

use super::requests::Plan;
use super::{BlkQueue, Part};
use crate::disk::ID;
use crate::request::{HEADER, Status, Wish, understand};

/// Most bytes of a piece without data (block ring: up to 2³¹).
const MOST_ZEROES: u64 = 1 << 30;

impl BlkQueue {
    /// Does the next thing: a piece that has to go again, the next piece of the request being cut, or
    /// a new request. `false`: there is nothing, or no room.
    pub(super) fn advance(&mut self, queue: &mut LiveQueue) -> Result<bool, LinkFault> {
        if let Some(piece) = self.again.front().copied() {
            let sent = self.send_again(queue, piece)?;
            if sent {
                self.again.pop_front();
            }
            return Ok(sent);
        }
        match self.cutting {
            Some(place) => self.cut(queue, place),
            None => self.take(queue),
        }
    }

    fn take(&mut self, queue: &mut LiveQueue) -> Result<bool, LinkFault> {
        let Some(place) = self.requests.free_place() else { return Ok(false) };
        let Some(request) = self.requests.get(place) else { return Ok(false) };
        match queue.take(&mut request.chain) {
            None => {
                self.requests.release(place);
                Ok(false)
            }
            Some(Taken::Poison(token)) => {
                let written = answer(&request.chain, queue.memory(), Status::IoError, 0);
                queue.refuse(token, written);
                self.requests.release(place);
                Ok(true)
            }
            Some(Taken::Request(token)) => self.begin(queue, place, token),
        }
    }

    fn begin(
        &mut self,
        queue: &mut LiveQueue,
        place: u32,
        token: Token,
    ) -> Result<bool, LinkFault> {
        let durable = self.disk.writes_through(queue.features());
        let Some(request) = self.requests.get(place) else { return Ok(false) };
        let written = match understand(&request.chain, queue.memory(), &self.disk) {
            Wish::Image { operation, offset, len } => {
                let (cut, whole, left, failed) = (0, false, 0, false);
                let plan =
                    Plan { token, operation, durable, offset, len, cut, whole, left, failed };
                request.plan = Some(plan);
                return self.cut(queue, place);
            }
            Wish::Id => tell_id(&request.chain, queue.memory(), &self.disk.id),
            Wish::Answer(status) => answer(&request.chain, queue.memory(), status, 0),
        };
        queue.complete(token, written);
        self.requests.release(place);
        Ok(true)
    }

    /// Submits the next piece of a request. A request without room stays to be cut.
    fn cut(&mut self, queue: &mut LiveQueue, place: u32) -> Result<bool, LinkFault> {
        self.cutting = Some(place);
        let Some(plan) = self.requests.plan(place) else {
            self.cutting = None;
            return Ok(true);
        };
        let (piece, len) = self.next_piece(place, plan);
        let sent = self.send(queue, piece)?;
        let Some(plan) = self.requests.plan_mut(place) else { return Ok(true) };
        match sent {
            Sent::NoRoom => return Ok(false),
            Sent::Out => plan.left += 1,
            Sent::Lost => plan.failed = true,
        }
        plan.cut += len;
        plan.whole = plan.cut == plan.len;
        if plan.whole {
            self.cutting = None;
            self.conclude(queue, place);
        }
        Ok(true)
    }

    fn next_piece(&self, place: u32, plan: Plan) -> (Piece<Part>, u64) {
        let has_data = matches!(plan.operation, Operation::Read | Operation::Write);
        let most = if has_data { self.link.longest() } else { MOST_ZEROES };
        let len = (plan.len - plan.cut).min(most);
        let durable = plan.durable && plan.operation != Operation::Read;
        let piece = Piece {
            whose: Part { request: place, from: plan.cut },
            operation: plan.operation,
            flags: if durable { FLAG_FUA } else { 0 },
            offset: plan.offset + plan.cut,
            len: len as u32,
        };
        (piece, len)
    }

    /// Copies a piece's data to the arena and submits it.
    fn send(&mut self, queue: &LiveQueue, piece: Piece<Part>) -> Result<Sent, LinkFault> {
        let Some(span) = self.reserve(&piece) else {
            self.stuck = true;
            return Ok(Sent::NoRoom);
        };
        if !self.load(queue.memory(), &piece, span.as_ref()) {
            self.link.release(span);
            return Ok(Sent::Lost);
        }
        self.link.submit(piece, span)?;
        Ok(Sent::Out)
    }

    /// Room for a piece: a tag and, if it has data, a span. `None`: not now, a completion makes room.
    fn reserve(&mut self, piece: &Piece<Part>) -> Option<Option<ArenaSpan>> {
        match (self.link.has_tag(), piece.span()) {
            (false, _) => None,
            (true, 0) => Some(None),
            (true, bytes) => self.link.take_span(bytes).map(Some),
        }
    }

    /// Copies what a piece writes to its span.
    fn load(
        &mut self,
        memory: &GuestMemory,
        piece: &Piece<Part>,
        span: Option<&ArenaSpan>,
    ) -> bool {
        let (Operation::Write, Some(span)) = (piece.operation, span) else { return true };
        let Some(request) = self.requests.get(piece.whose.request) else { return false };
        let data = &request.chain.readable;
        to_arena(data, memory, HEADER + piece.whose.from, self.link.arena(), span).is_ok()
    }

    /// Submits a piece again that a dead block-layer had; `false`: no room.
    fn send_again(&mut self, queue: &mut LiveQueue, piece: Piece<Part>) -> Result<bool, LinkFault> {
        match self.send(queue, piece)? {
            Sent::NoRoom => return Ok(false),
            Sent::Out => {}
            Sent::Lost => self.account(queue, piece.whose.request, true),
        }
        Ok(true)
    }

    /// A piece is completed.
    pub(super) fn finish(&mut self, queue: &mut LiveQueue, done: Done<Part>) {
        let Done { piece, span, status } = done;
        let mut failed = status != 0;
        if let (Operation::Read, false, Some(span)) = (piece.operation, failed, &span) {
            let (arena, memory) = (self.link.arena(), queue.memory());
            let request = self.requests.get(piece.whose.request);
            let copied = request.map(|request| {
                from_arena(&request.chain.writable, memory, piece.whose.from, arena, span)
            });
            failed = !matches!(copied, Some(Ok(())));
        }
        self.link.release(span);
        self.account(queue, piece.whose.request, failed);
    }

    fn account(&mut self, queue: &mut LiveQueue, place: u32, failed: bool) {
        if let Some(plan) = self.requests.plan_mut(place) {
            plan.left = plan.left.saturating_sub(1);
            plan.failed |= failed;
        }
        self.conclude(queue, place);
    }

    /// Answers a request if all of it was cut and every piece is completed.
    fn conclude(&mut self, queue: &mut LiveQueue, place: u32) {
        let Some(plan) = self.requests.plan(place).filter(|plan| plan.whole && plan.left == 0)
        else {
            return;
        };
        let status = if plan.failed { Status::IoError } else { Status::Ok };
        let data = if plan.operation == Operation::Read { plan.len } else { 0 };
        if let Some(request) = self.requests.get(place) {
            let written = answer(&request.chain, queue.memory(), status, data);
            queue.complete(plan.token, written);
        }
        self.requests.release(place);
    }

    /// Block-layer died by its own fault: counts an attempt for every request that was with it, and
    /// refuses those that it died of too often.
    pub(super) fn sort_out_poison(&mut self, queue: &mut LiveQueue) {
        for (place, plan) in self.requests.in_flight() {
            if plan.left == 0 || !queue.count_attempt(plan.token) {
                continue;
            }
            self.again.retain(|piece| piece.whose.request != place);
            if self.cutting == Some(place) {
                self.cutting = None;
            }
            if let Some(request) = self.requests.get(place) {
                let written = answer(&request.chain, queue.memory(), Status::IoError, 0);
                queue.refuse(plan.token, written);
            }
            self.requests.release(place);
        }
    }
}

/// What became of a piece.
enum Sent {
    /// It is out.
    Out,
    /// It waits for room.
    NoRoom,
    /// Its data is gone: the frontend removed the memory.
    Lost,
}

/// Guest → arena, from `offset` in the guest's bytes.
fn to_arena(
    data: &Scatter,
    memory: &GuestMemory,
    offset: u64,
    arena: &Arena,
    span: &ArenaSpan,
) -> Result<(), CopyError> {
    let to = arena.check(span.offset(), span.len())?;
    data.for_each(memory, offset, span.len(), |slice, done| {
        Ok(slice.copy_to_mapping(to.mapping(), to.offset() + done as usize)?)
    })
}

/// Arena → guest, to `offset` in the guest's bytes.
fn from_arena(
    data: &Scatter,
    memory: &GuestMemory,
    offset: u64,
    arena: &Arena,
    span: &ArenaSpan,
) -> Result<(), CopyError> {
    let from = arena.check(span.offset(), span.len())?;
    data.for_each(memory, offset, span.len(), |slice, done| {
        Ok(slice.copy_from_mapping(from.mapping(), from.offset() + done as usize)?)
    })
}

/// Why data could not be copied. The request fails, whoever is to blame.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(transparent)]
    Guest(#[from] ScatterError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Arena(#[from] OutOfArena),
}

/// Writes the status, which is the last byte that the device may write. Answers how many bytes were
/// written from the first one on: `data` bytes and the status if nothing lies between.
fn answer(chain: &Chain, memory: &GuestMemory, status: Status, data: u64) -> u32 {
    let Some(last) = chain.writable.len().checked_sub(1) else { return 0 };
    if chain.writable.copy_out(memory, last, &[status.byte()]).is_err() {
        return 0;
    }
    let data = if status == Status::Ok { data } else { 0 };
    if data == last { data as u32 + 1 } else { data as u32 }
}

/// Answers the request for the disk's id: as many bytes of it as there is room for.
fn tell_id(chain: &Chain, memory: &GuestMemory, id: &[u8; ID]) -> u32 {
    let room = chain.writable.len().saturating_sub(1).min(ID as u64);
    let told = id.get(..room as usize).unwrap_or_default();
    match chain.writable.copy_out(memory, 0, told) {
        Ok(()) => answer(chain, memory, Status::Ok, room),
        Err(_) => answer(chain, memory, Status::IoError, 0),
    }
}
