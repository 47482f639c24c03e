//! What a predecessor's record of a packed queue says, if it says anything consistent.

use bulkhead_virtqueue::PackedPosition;

use super::*;

/// A request in flight, as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedRequest {
    /// Its first entry, by which the record knows it.
    pub entry: u16,
    /// How many descriptors, hence places in the ring, it has.
    pub slots: u16,
}

/// What a predecessor left.
#[derive(Debug, PartialEq, Eq)]
pub struct PackedRecovery {
    /// Requests in flight, in the order in which they were taken.
    pub requests: Vec<PackedRequest>,
    /// Where the next used descriptor goes.
    pub used: PackedPosition,
}

impl PackedRecovery {
    /// Where the next available descriptor stands: behind all that is in flight.
    pub fn available(&self, size: u16) -> PackedPosition {
        let behind = |at: PackedPosition, request: &PackedRequest| at.advanced(request.slots, size);
        self.requests.iter().fold(self.used, behind)
    }
}

/// Entries that some list has.
struct Claims(Vec<bool>);

impl Claims {
    /// An entry belongs to one list.
    fn claim(&mut self, entry: u16) -> Result<(), TableFault> {
        match self.0.get_mut(usize::from(entry)) {
            Some(claimed) if !*claimed => {
                *claimed = true;
                Ok(())
            }
            _ => Err(TableFault::Link(entry)),
        }
    }
}

impl PackedRecord {
    /// Decides about a chain that was being given back: if the driver can see it, it is given back;
    /// if not, it never was.
    pub(super) fn settle<E: From<TableFault>>(
        &mut self,
        is_available: impl FnOnce(PackedPosition) -> Result<bool, E>,
    ) -> Result<(), E> {
        let found = self.words.load_u16(AT_ENTRIES);
        if found != self.size {
            return Err(TableFault::Entries { found, size: self.size }.into());
        }
        let (new, old) = self.load_positions()?;
        if new != old && !is_available(old)? {
            self.used = new;
            self.free_head = self.words.load_u16(AT_FREE_HEAD);
            self.words.store_u16(AT_OLD_FREE_HEAD, self.free_head);
        } else {
            self.used = old;
            self.free_head = self.words.load_u16(AT_OLD_FREE_HEAD);
            self.words.store_u16(AT_FREE_HEAD, self.free_head);
        }
        self.store_positions(self.used);
        Ok(())
    }

    fn load_positions(&self) -> Result<(PackedPosition, PackedPosition), TableFault> {
        let word = self.words.load_u64(AT_POSITIONS);
        let position = |index: u64, wrap: u64| match (index as u16, wrap as u8) {
            (index, wrap @ (0 | 1)) if index < self.size => {
                Ok(PackedPosition { index, wrap: wrap == 1 })
            }
            (index, _) => Err(TableFault::UsedIndex { table: index, ring: self.size }),
        };
        Ok((position(word, word >> 32)?, position(word >> 16, word >> 40)?))
    }

    /// Finds the requests in flight: what is marked so and not on the free list. Every entry must be
    /// on that list or in one request.
    pub(super) fn recover(&mut self) -> Result<PackedRecovery, TableFault> {
        for (entry, next) in (0..self.size).zip(&mut self.next) {
            *next = self.words.load_u16(place(entry) + AT_NEXT);
        }
        let mut claims = Claims(vec![false; self.size.into()]);
        let free = self.clear_free_list(&mut claims)?;
        let mut found = Vec::new();
        for entry in 0..self.size {
            match self.words.load_u8(place(entry) + AT_INFLIGHT) {
                0 => {}
                1 => {
                    let counter = self.words.load_u64(place(entry) + AT_COUNTER);
                    found.push((counter, entry, self.claim_request(entry, &mut claims)?));
                }
                _ => return Err(TableFault::Entry(entry)),
            }
        }
        let used: u32 = found.iter().map(|(_, _, slots)| u32::from(*slots)).sum();
        if u32::from(free) + used != u32::from(self.size) {
            return Err(TableFault::Sum { free, used, size: self.size });
        }
        found.sort_unstable();
        self.counter = found.last().map_or(0, |(counter, ..)| counter.wrapping_add(1));
        let request = |(_, entry, slots)| PackedRequest { entry, slots };
        Ok(PackedRecovery { requests: found.into_iter().map(request).collect(), used: self.used })
    }

    /// Clears the marks of free entries (of a chain that was being taken, or was given back just now);
    /// answers how many there are.
    fn clear_free_list(&self, claims: &mut Claims) -> Result<u16, TableFault> {
        let (mut entry, mut free) = (self.free_head, 0);
        // Ends: each turn claims an entry that none has claimed before.
        while entry != self.size {
            claims.claim(entry)?;
            self.words.store_u8(place(entry) + AT_INFLIGHT, 0);
            free += 1;
            entry = self.next.get(usize::from(entry)).copied().unwrap_or(entry);
        }
        Ok(free)
    }

    /// Checks the links of a request; answers how many entries it has.
    fn claim_request(&self, first: u16, claims: &mut Claims) -> Result<u16, TableFault> {
        let slots = self.words.load_u16(place(first) + AT_COUNT);
        if slots == 0 || slots > self.size {
            return Err(TableFault::Entry(first));
        }
        let mut entry = first;
        for at in 0..slots {
            if at > 0 {
                entry = self.next.get(usize::from(entry)).copied().unwrap_or(entry);
            }
            claims.claim(entry)?;
        }
        match self.words.load_u16(place(first) + AT_LAST) == entry {
            true => Ok(slots),
            false => Err(TableFault::Entry(first)),
        }
    }
}
