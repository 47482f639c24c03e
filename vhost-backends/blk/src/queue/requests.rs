//! The requests of a queue, in places that are used again and again.

use bulkhead_backend_kit::Token;
use bulkhead_protocol::block_ring::Operation;
use bulkhead_virtqueue::Chain;

/// What is known of a request that is served by pieces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) token: Token,
    pub(super) operation: Operation,
    /// On stable storage before it is completed.
    pub(super) durable: bool,
    /// First byte in the image.
    pub(super) offset: u64,
    /// Bytes.
    pub(super) len: u64,
    /// Bytes of it that pieces were cut for.
    pub(super) cut: u64,
    /// All of it was cut.
    pub(super) whole: bool,
    /// Pieces not completed yet.
    pub(super) left: u32,
    /// Some piece failed.
    pub(super) failed: bool,
}

/// A place for a request.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) chain: Chain,
    /// `None`: the place is free.
    pub(super) plan: Option<Plan>,
}

/// All places. They are made when they are needed for the first time.
#[derive(Debug)]
pub(super) struct Requests {
    places: Vec<Request>,
    free: Vec<u32>,
    most: usize,
}

impl Requests {
    pub(super) fn new(queue_size: u16) -> Self {
        Self { places: Vec::new(), free: Vec::new(), most: queue_size.into() }
    }

    /// A free place; `None`: the driver has more in flight than the queue has descriptors, which the
    /// queue does not let happen.
    pub(super) fn free_place(&mut self) -> Option<u32> {
        if let Some(place) = self.free.pop() {
            return Some(place);
        }
        if self.places.len() >= self.most {
            return None;
        }
        self.places.push(Request::default());
        Some(self.places.len() as u32 - 1)
    }

    pub(super) fn get(&mut self, place: u32) -> Option<&mut Request> {
        self.places.get_mut(place as usize)
    }

    /// The plan of the request there.
    pub(super) fn plan(&self, place: u32) -> Option<Plan> {
        self.places.get(place as usize).and_then(|request| request.plan)
    }

    pub(super) fn plan_mut(&mut self, place: u32) -> Option<&mut Plan> {
        self.places.get_mut(place as usize).and_then(|request| request.plan.as_mut())
    }

    /// The request is over.
    pub(super) fn release(&mut self, place: u32) {
        if let Some(request) = self.get(place) {
            request.plan = None;
            request.chain.clear();
            self.free.push(place);
        }
    }

    /// All requests in flight, by place.
    pub(super) fn in_flight(&self) -> Vec<(u32, Plan)> {
        let plans = (0..).zip(self.places.iter().map(|request| request.plan));
        plans.filter_map(|(place, plan)| Some((place, plan?))).collect()
    }
}
