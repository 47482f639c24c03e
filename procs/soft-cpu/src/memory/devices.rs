//! What devices write onto decoded code.
//!
//! Device processes write to guest memory without a word to anybody here. They mark the pages that they have
//! written in a log ([`WrittenPages`]) and then tell the guest by a used index. So the guest's own look at
//! that index is the moment: pages with used rings are read the slow way, and a read that has found a new
//! index is not over before the marks were taken and all vCPUs have dropped what they decoded from marked
//! pages. A page's mark from before it was decoded says nothing, and is taken when it is decoded.
//!
//! ```text
//!  device   data ─► mark ─► used index
//!  vCPU                      └► read the index ─► any news? ─► take marks ─► drop, on all vCPUs ─► go on
//! ```
//!
//! Law: of several vCPUs that see the same news, none goes on before the drop is complete. A device that
//! marks nothing counts as having written everything.
//!
//! Absent on purpose: a look at the marks on interrupts (a driver that has not read the index does not know
//! what was written), and rings other than split ones (the frontend offers no others).

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bulkhead_memory::{GuestRange, PAGES_OF_WORD, WrittenPages};

use super::host;
use super::order::Order;
use super::ram::{PAGE, Ram};
use crate::cpu::Cpu;
use crate::fault::{Raised, Stop};

/// An index that no ring has.
const UNSEEN: u32 = u32::MAX;

/// Offset of the index in a used ring (virtio 1.2, 2.7.8).
const INDEX: u64 = 2;

/// A used ring.
#[derive(Debug)]
struct Ring {
    range: GuestRange,
    /// The index whose news all vCPUs know.
    seen: AtomicU32,
}

impl Ring {
    fn touches(&self, page: u64) -> bool {
        page < self.range.addr + self.range.len && self.range.addr < page + PAGE
    }
}

/// What is known of the devices, shared by a machine's vCPUs.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    written: Option<Arc<WrittenPages>>,
    rings: RwLock<Vec<Ring>>,
    /// For each 64 pages of guest addresses: which of them have a used ring.
    watched: Vec<AtomicU64>,
    /// For each word of the log: some page of it was decoded at some time.
    coded: Vec<AtomicU64>,
    /// There is a device that does not mark what it writes.
    unlogged: AtomicBool,
    /// Held by who claims a page of which nobody has decoded yet.
    claiming: Mutex<()>,
    /// A vCPU is taking marks.
    taking: AtomicBool,
}

impl Devices {
    /// Of a machine whose RAM ends at `end` and whose devices mark what they write in `written`.
    pub(crate) fn new(end: u64, written: Option<Arc<WrittenPages>>) -> Self {
        let words = end.div_ceil(PAGE * PAGES_OF_WORD);
        let zeroes = |count: u64| (0..count).map(|_| AtomicU64::new(0)).collect();
        let (watched, coded) = (zeroes(words), zeroes(words.div_ceil(64)));
        Self { written, watched, coded, ..Self::default() }
    }

    /// From now on a device tells its news there, or does so no more. The caller takes the translations to
    /// these pages from all vCPUs.
    pub(crate) fn watch(&self, range: GuestRange, watch: bool) {
        let mut rings = self.rings.write().unwrap_or_else(PoisonError::into_inner);
        match watch {
            true => rings.push(Ring { range, seen: AtomicU32::new(UNSEEN) }),
            false => {
                let place = rings.iter().position(|ring| ring.range == range);
                place.map(|place| rings.swap_remove(place));
            }
        }
        for page in pages(range) {
            let (word, bit) = place_of(page);
            let Some(word) = self.watched.get(word) else { continue };
            match rings.iter().any(|ring| ring.touches(page)) {
                true => word.fetch_or(bit, Ordering::SeqCst),
                false => word.fetch_and(!bit, Ordering::SeqCst),
            };
        }
    }

    /// From now on there is a device that does not mark what it writes.
    pub(crate) fn expect_unlogged(&self) {
        self.unlogged.store(true, Ordering::SeqCst);
    }

    /// Whether there is a used ring in the page of `physical`.
    pub(crate) fn is_watched(&self, physical: u64) -> bool {
        let (word, bit) = place_of(physical);
        self.watched.get(word).is_some_and(|word| word.load(Ordering::SeqCst) & bit != 0)
    }

    /// Code is about to be decoded from the page of `physical`. `claim` says so to everybody and answers
    /// whether nobody had before: only then is the page's mark taken, so that a mark is never taken from
    /// under a vCPU that has decoded already.
    pub(crate) fn claim(&self, physical: u64, claim: impl FnOnce() -> bool) -> bool {
        let _claiming = self.claiming.lock().unwrap_or_else(PoisonError::into_inner);
        let word = physical / PAGE / PAGES_OF_WORD;
        if let Some(coded) = self.coded.get((word / 64) as usize) {
            coded.fetch_or(1 << (word % 64), Ordering::SeqCst);
        }
        let is_first = claim();
        if let Some(written) = self.written.as_ref().filter(|_| is_first) {
            written.take_page(physical);
        }
        is_first
    }

    /// The used rings in the page of `physical` whose index is not the one that was seen last, by place and
    /// index.
    fn news(&self, ram: &Ram, physical: u64) -> Vec<(usize, u32)> {
        let page = physical & !(PAGE - 1);
        let rings = self.rings.read().unwrap_or_else(PoisonError::into_inner);
        let touched = rings.iter().enumerate().filter(|(_, ring)| ring.touches(page));
        let changed = touched.filter_map(|(place, ring)| {
            let index = ram.host(ring.range.addr.wrapping_add(INDEX), 2)?;
            // SAFETY: `host` proved two bytes of guest RAM.
            let index: u16 = unsafe { host::load(index) };
            let index = u32::from(index);
            (ring.seen.load(Ordering::SeqCst) != index).then_some((place, index))
        });
        changed.collect()
    }

    fn note_seen(&self, news: &[(usize, u32)]) {
        let rings = self.rings.read().unwrap_or_else(PoisonError::into_inner);
        for (place, index) in news {
            if let Some(ring) = rings.get(*place) {
                ring.seen.store(*index, Ordering::SeqCst);
            }
        }
    }

    /// Takes the marks of pages from which code may have been decoded: guest addresses.
    fn take_marks(&self) -> Vec<u64> {
        let Some(written) = &self.written else { return Vec::new() };
        let mut marked = Vec::new();
        for (words, coded) in (0..).zip(&self.coded) {
            for word in bits(coded.load(Ordering::SeqCst)).map(|bit| 64 * words + bit) {
                let pages = bits(written.take(word)).map(|bit| word * PAGES_OF_WORD + bit);
                marked.extend(pages.map(|page| page * PAGE));
            }
        }
        marked
    }
}

fn place_of(physical: u64) -> (usize, u64) {
    let page = physical / PAGE;
    ((page / PAGES_OF_WORD) as usize, 1 << (page % PAGES_OF_WORD))
}

/// The pages that a range touches.
pub(crate) fn pages(range: GuestRange) -> impl Iterator<Item = u64> {
    let first = range.addr & !(PAGE - 1);
    (first..range.addr.saturating_add(range.len)).step_by(PAGE as usize)
}

/// The bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| u64::from(word.trailing_zeros()))?;
        word &= word - 1;
        Some(bit)
    })
}

impl Cpu {
    /// To be called behind a read of a watched page, before the guest gets to know what was read.
    pub(super) fn heed_devices(&mut self, physical: u64) -> Result<(), Raised> {
        let ram = self.ram.clone();
        let devices = ram.devices();
        if devices.news(&ram, physical).is_empty() {
            return Ok(());
        }
        // Blocks can be dropped only by an instruction that runs alone: it is started again so.
        if !self.is_alone {
            self.stop = Stop::Alone;
            return Err(Raised);
        }
        while devices.taking.swap(true, Ordering::SeqCst) {
            self.obey();
            std::thread::yield_now();
        }
        let news = devices.news(&ram, physical);
        if !news.is_empty() {
            self.drop_written_code();
        }
        devices.note_seen(&news);
        devices.taking.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn drop_written_code(&mut self) {
        let ram = self.ram.clone();
        if ram.devices().unlogged.load(Ordering::SeqCst) {
            ram.devices().take_marks();
            ram.code().clear_all();
            self.blocks.invalidate_all();
            return self.order(Order::DropAllCode, true);
        }
        for physical in ram.devices().take_marks() {
            let page = ram.page_number(physical);
            if let Some(page) = page.filter(|page| ram.code().chunks(*page) != 0) {
                ram.code().clear(page);
                self.blocks.invalidate(&ram, physical);
                self.order(Order::DropCode(physical), true);
            }
        }
    }
}
