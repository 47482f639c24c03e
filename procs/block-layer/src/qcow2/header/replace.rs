//! Another header in the place of one, by a write that is there or is not.
//!
//! A disk writes a sector as a whole, so everything that must change together is kept in the first one:
//! the numbers, and the extensions that say where something is. The names of features, which are for
//! people, are left out where they would not fit. The name of the backing file may lie behind the first
//! sector; a name that is new is written first, to where the old one is not.

use super::write::{extensions, fixed};
use super::{Header, OWN_BYTES};

/// Bytes that are written at once.
const SECTOR: usize = 512;

/// What is to be written.
#[derive(Debug, PartialEq, Eq)]
pub struct Replaced {
    /// First of all: a name, and where.
    pub name: Option<(u64, Vec<u8>)>,
    /// Then, from the file's first byte on.
    pub first: Vec<u8>,
}

/// The header that takes the place of `was`, of which `old` are the bytes; `None` if its names do not fit
/// into a cluster.
pub fn replace(old: &[u8], was: &Header, header: &Header) -> Option<Replaced> {
    if (was.version, &was.backing, &was.extensions)
        == (header.version, &header.backing, &header.extensions)
    {
        // Only numbers have changed; everything else stays where it is.
        let mut first = old.get(..SECTOR)?.to_vec();
        let numbers = fixed(header);
        let own = if header.version > 2 { 100 } else { 72 };
        first.get_mut(20..own)?.copy_from_slice(numbers.get(20..own)?);
        return Some(Replaced { name: None, first });
    }
    let mut first = fixed(header);
    if was.version > 2 && header.version > 2 && was.bytes as usize > OWN_BYTES {
        // Fields that nobody here knows.
        first.extend(old.get(OWN_BYTES..was.bytes as usize)?);
        first[100..104].copy_from_slice(&was.bytes.to_be_bytes());
    }
    let named = [&first[..], &extensions(header, true)].concat();
    let bare = [&first[..], &extensions(header, false)].concat();
    let mut first = if named.len() <= SECTOR { named } else { bare };
    let name = header.backing.as_deref().unwrap_or_default().as_bytes();
    let mut elsewhere = None;
    if !name.is_empty() {
        let inside = first.len() + name.len() <= SECTOR;
        let at = if inside { first.len() } else { place(old, header, first.len(), name)? };
        first[8..16].copy_from_slice(&(at as u64).to_be_bytes());
        first[16..20].copy_from_slice(&(name.len() as u32).to_be_bytes());
        if inside {
            first.extend(name);
        } else {
            elsewhere = Some((at as u64, name.to_vec()));
        }
    }
    if first.len() as u64 > header.geometry.cluster() {
        return None;
    }
    first.resize(first.len().next_multiple_of(SECTOR), 0);
    Some(Replaced { name: elsewhere, first })
}

/// Where a name goes that does not fit into the first sector: not over the old one, if there is room.
fn place(old: &[u8], header: &Header, end: usize, name: &[u8]) -> Option<usize> {
    let number = |at: usize, len: usize| {
        let bytes = old.get(at..at + len).unwrap_or_default();
        bytes.iter().fold(0, |number: usize, byte| number << 8 | usize::from(*byte))
    };
    let taken = number(8, 8)..number(8, 8).saturating_add(number(16, 4));
    let begin = end.next_multiple_of(SECTOR);
    let cluster = header.geometry.cluster() as usize;
    let fits = |at: &usize| at + name.len() <= cluster;
    let places = || (0..4).map(|step| begin + step * 2 * SECTOR).filter(fits);
    let apart = |at: &usize| at + name.len() <= taken.start || taken.end <= *at;
    places().find(apart).or_else(|| places().next())
}
