//! The header: what an image says about itself, and what of it is believed.
//!
//! All numbers are big-endian (`struct luks_phdr`, section 5 of the specification). [`Header::read`] refuses
//! by name what is not known here; what it returns lies within these limits, so that nobody allocates or
//! computes by the image's word alone.

use ring::digest::{self, Algorithm};
use ring::pbkdf2;

use super::SECTOR;
use super::cipher::{Mode, Spec, Start};

/// Bytes of a header.
pub const BYTES: usize = 592;

/// `LUKS\xba\xbe`.
const MAGIC: &[u8] = b"LUKS\xba\xbe";

/// Slots of keys.
pub const SLOTS: usize = 8;

/// Where they begin, and how long each is.
const SLOTS_AT: usize = 208;
const SLOT_BYTES: usize = 48;

const ACTIVE: u32 = 0x00ac_71f3;
const INACTIVE: u32 = 0x0000_dead;

/// Stripes of a key: everybody's number.
pub const STRIPES: u32 = 4000;

/// Rounds of key derivation over all slots: a minute and a half of a processor. cryptsetup and QEMU aim at
/// two seconds a slot.
const MOST_ROUNDS: u64 = 250_000_000;

/// Why a header is none of ours. Blames the image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Another format.
    #[error("the image is not in LUKS format")]
    Format,
    /// A version nobody here knows.
    #[error("the image is LUKS version {0}; version 1 is served: cryptsetup convert --type luks1")]
    Version(u16),
    /// A cipher nobody here knows.
    #[error("the image is encrypted by {0}; aes in xts-plain64 or cbc-essiv:sha256 is served")]
    Cipher(String),
    /// A digest nobody here knows.
    #[error("the image's keys are derived by {0}; sha1, sha256 and sha512 are served")]
    Hash(String),
    /// Half of something.
    #[error("the image's LUKS header is wrong: {0}")]
    Wrong(String),
}

/// A digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// By its name in headers.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sha1" => Self::Sha1,
            "sha256" => Self::Sha256,
            "sha512" => Self::Sha512,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    pub(super) fn digest(self) -> &'static Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }

    pub(super) fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

/// Where a key is, for those who know a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Rounds of its derivation, at least 1.
    pub rounds: u32,
    /// Salt of its derivation.
    pub salt: [u8; 32],
    /// The sector where it begins.
    pub sector: u32,
    /// Over how many stripes it is spread.
    pub stripes: u32,
}

/// A checked header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// How sectors are encrypted.
    pub spec: Spec,
    /// How keys are derived.
    pub hash: Hash,
    /// The sector where the disk begins.
    pub payload: u32,
    /// Bytes of the key.
    pub key_bytes: usize,
    /// PBKDF2 of the key.
    pub digest: [u8; 20],
    /// Its salt.
    pub digest_salt: [u8; 32],
    /// Its rounds, at least 1.
    pub digest_rounds: u32,
    /// As text.
    pub uuid: String,
    /// Slots; those that are not in use are `None`.
    pub slots: [Option<Slot>; SLOTS],
}

/// Fields at offsets within a header; the caller has seen to its length.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const LEN: usize>(&self, at: usize) -> [u8; LEN] {
        let bytes = self.0.get(at..at + LEN).and_then(|bytes| bytes.try_into().ok());
        bytes.unwrap_or([0; LEN])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }

    /// Up to the first zero. What is no text comes out as question marks.
    fn text(&self, at: usize, len: usize) -> String {
        let bytes = self.0.get(at..at + len).unwrap_or_default();
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let plain = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
        text.iter().map(plain).collect()
    }
}

fn wrong<T>(what: impl Into<String>) -> Result<T, HeaderError> {
    Err(HeaderError::Wrong(what.into()))
}

impl Header {
    /// Reads a header from its [`BYTES`].
    pub fn read(bytes: &[u8]) -> Result<Self, HeaderError> {
        let fields = Fields(bytes);
        if !bytes.starts_with(MAGIC) {
            return Err(HeaderError::Format);
        }
        match u16::from_be_bytes(fields.array(6)) {
            1 => {}
            version => return Err(HeaderError::Version(version)),
        }
        if bytes.len() < BYTES {
            return wrong("the file ends within it");
        }
        let spec = spec(&fields)?;
        let name = fields.text(72, 32);
        let hash = Hash::named(&name).ok_or(HeaderError::Hash(name))?;
        let key_bytes = fields.u32(108) as usize;
        if !spec.key_lengths().contains(&key_bytes) {
            return wrong(format!("a key of {key_bytes} bytes"));
        }
        let mut slots = [None; SLOTS];
        for (number, slot) in slots.iter_mut().enumerate() {
            *slot = read_slot(&fields, number)?;
        }
        let header = Self {
            spec,
            hash,
            payload: fields.u32(104),
            key_bytes,
            digest: fields.array(112),
            digest_salt: fields.array(132),
            digest_rounds: fields.u32(164),
            uuid: fields.text(168, 40),
            slots,
        };
        header.check()?;
        Ok(header)
    }

    /// The slots in use.
    pub fn active(&self) -> impl Iterator<Item = Slot> + use<> {
        self.slots.into_iter().flatten()
    }

    /// Bytes of the split key of a slot, up to the end of its last sector.
    pub fn material(&self, slot: Slot) -> usize {
        (self.key_bytes * slot.stripes as usize).next_multiple_of(SECTOR as usize)
    }

    /// Bytes from the header's beginning up to where the last split key ends.
    pub fn end(&self) -> u64 {
        let end = |slot: Slot| u64::from(slot.sector) * SECTOR + self.material(slot) as u64;
        self.active().map(end).max().unwrap_or(0).max(BYTES as u64)
    }

    fn check(&self) -> Result<(), HeaderError> {
        if self.active().next().is_none() {
            return wrong("no slot for a key is in use");
        }
        let rounds = self.active().map(|slot| u64::from(slot.rounds)).sum::<u64>();
        // PBKDF2 does them once for each digest's length of key.
        let times = self.key_bytes.div_ceil(self.hash.digest().output_len()) as u64;
        if rounds * times + u64::from(self.digest_rounds) > MOST_ROUNDS {
            return wrong(format!("{rounds} rounds of key derivation"));
        }
        if self.digest_rounds == 0 {
            return wrong("a digest of the key without rounds");
        }
        Ok(())
    }

    /// Its bytes.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = vec![0; BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, MAGIC);
        put(6, &1u16.to_be_bytes());
        put(8, b"aes");
        put(40, mode_name(self.spec).as_bytes());
        put(72, self.hash.name().as_bytes());
        put(104, &self.payload.to_be_bytes());
        put(108, &(self.key_bytes as u32).to_be_bytes());
        put(112, &self.digest);
        put(132, &self.digest_salt);
        put(164, &self.digest_rounds.to_be_bytes());
        put(168, &self.uuid.as_bytes()[..self.uuid.len().min(39)]);
        for (number, slot) in self.slots.iter().enumerate() {
            let at = SLOTS_AT + number * SLOT_BYTES;
            let Some(slot) = slot else {
                put(at, &INACTIVE.to_be_bytes());
                let sector = empty_slot(number, self.key_bytes);
                put(at + 40, &sector.to_be_bytes());
                put(at + 44, &STRIPES.to_be_bytes());
                continue;
            };
            put(at, &ACTIVE.to_be_bytes());
            put(at + 4, &slot.rounds.to_be_bytes());
            put(at + 8, &slot.salt);
            put(at + 40, &slot.sector.to_be_bytes());
            put(at + 44, &slot.stripes.to_be_bytes());
        }
        bytes
    }
}

/// The sector where a slot's key goes in a header of our own: each on a boundary of 4 KiB.
pub fn empty_slot(number: usize, key_bytes: usize) -> u32 {
    let each = (key_bytes * STRIPES as usize).div_ceil(4096);
    ((1 + number * each) * 4096 / SECTOR as usize) as u32
}

fn spec(fields: &Fields<'_>) -> Result<Spec, HeaderError> {
    let (cipher, mode) = (fields.text(8, 32), fields.text(40, 32));
    let found = SPECS.iter().find(|(name, _)| cipher == "aes" && *name == mode);
    found.map(|(_, spec)| *spec).ok_or_else(|| HeaderError::Cipher(format!("{cipher}-{mode}")))
}

const SPECS: [(&str, Spec); 6] = [
    ("xts-plain64", Spec { mode: Mode::Xts, start: Start::Plain64 }),
    ("xts-plain", Spec { mode: Mode::Xts, start: Start::Plain }),
    ("xts-essiv:sha256", Spec { mode: Mode::Xts, start: Start::Essiv }),
    ("cbc-essiv:sha256", Spec { mode: Mode::Cbc, start: Start::Essiv }),
    ("cbc-plain64", Spec { mode: Mode::Cbc, start: Start::Plain64 }),
    ("cbc-plain", Spec { mode: Mode::Cbc, start: Start::Plain }),
];

/// The mode's name in headers.
pub fn mode_name(spec: Spec) -> &'static str {
    SPECS.iter().find(|(_, other)| *other == spec).map_or("", |(name, _)| name)
}

fn read_slot(fields: &Fields<'_>, number: usize) -> Result<Option<Slot>, HeaderError> {
    let at = SLOTS_AT + number * SLOT_BYTES;
    match fields.u32(at) {
        INACTIVE => return Ok(None),
        ACTIVE => {}
        state => return wrong(format!("slot {number} is neither in use nor free ({state:#x})")),
    }
    let (rounds, salt) = (fields.u32(at + 4), fields.array(at + 8));
    let (sector, stripes) = (fields.u32(at + 40), fields.u32(at + 44));
    if rounds == 0 || stripes != STRIPES || u64::from(sector) * SECTOR < BYTES as u64 {
        return wrong(format!(
            "slot {number} has {rounds} rounds and {stripes} stripes at {sector}"
        ));
    }
    Ok(Some(Slot { rounds, salt, sector, stripes }))
}
