//! A disk request in the bytes of virtio 1.2, section 5.2.6.

/// Bytes of a sector, the unit of all addresses on the wire.
pub const SECTOR: u64 = 512;

/// Bytes of the header: type u32, reserved u32, sector u64.
pub(super) const HEADER: usize = 16;

/// Bytes of a discard or write-zeroes segment: sector u64, sectors u32, flags u32.
const SEGMENT: usize = 16;

/// Bytes that get-id returns.
const ID: u32 = 20;

const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const TYPE_GET_ID: u32 = 8;
const TYPE_DISCARD: u32 = 11;
const TYPE_WRITE_ZEROES: u32 = 13;
const FLAG_UNMAP: u32 = 1;

/// What the disk is asked. Sectors are of 512 bytes, lengths in bytes.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// Reads `len` bytes.
    Read {
        /// First sector.
        sector: u64,
        /// Bytes.
        len: u32,
    },
    /// Writes.
    Write {
        /// First sector.
        sector: u64,
        /// What.
        data: &'a [u8],
    },
    /// Completed writes to stable storage.
    Flush,
    /// The range may be deallocated.
    Discard {
        /// First sector.
        sector: u64,
        /// Sectors.
        sectors: u32,
    },
    /// The range reads as zeroes.
    WriteZeroes {
        /// First sector.
        sector: u64,
        /// Sectors.
        sectors: u32,
        /// It may be deallocated.
        unmap: bool,
    },
    /// The serial number, 20 bytes.
    GetId,
    /// Anything, legal or not.
    Raw {
        /// The header's type.
        kind: u32,
        /// The header's sector.
        sector: u64,
        /// Bytes after the header.
        out: &'a [u8],
        /// Bytes that the device may fill in before the status.
        input: u32,
    },
}

impl Request<'_> {
    pub(super) fn header(&self) -> [u8; HEADER] {
        let (kind, sector) = match *self {
            Self::Read { sector, .. } => (TYPE_IN, sector),
            Self::Write { sector, .. } => (TYPE_OUT, sector),
            Self::Flush => (TYPE_FLUSH, 0),
            Self::Discard { .. } => (TYPE_DISCARD, 0),
            Self::WriteZeroes { .. } => (TYPE_WRITE_ZEROES, 0),
            Self::GetId => (TYPE_GET_ID, 0),
            Self::Raw { kind, sector, .. } => (kind, sector),
        };
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[8..].copy_from_slice(&sector.to_le_bytes());
        bytes
    }

    /// The one segment of a discard or write-zeroes.
    pub(super) fn segment(&self) -> Option<[u8; SEGMENT]> {
        let (sector, sectors, flags) = match *self {
            Self::Discard { sector, sectors } => (sector, sectors, 0),
            Self::WriteZeroes { sector, sectors, unmap } => {
                (sector, sectors, if unmap { FLAG_UNMAP } else { 0 })
            }
            _ => return None,
        };
        let mut bytes = [0; SEGMENT];
        bytes[..8].copy_from_slice(&sector.to_le_bytes());
        bytes[8..12].copy_from_slice(&sectors.to_le_bytes());
        bytes[12..].copy_from_slice(&flags.to_le_bytes());
        Some(bytes)
    }

    /// Data after the header, apart from a [`Request::segment`].
    pub(super) fn payload(&self) -> &[u8] {
        match self {
            Self::Write { data, .. } => data,
            Self::Raw { out, .. } => out,
            _ => &[],
        }
    }

    /// Bytes the device returns in front of the status.
    pub(super) fn input(&self) -> u32 {
        match *self {
            Self::Read { len, .. } => len,
            Self::GetId => ID,
            Self::Raw { input, .. } => input,
            _ => 0,
        }
    }
}

/// What the device answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// VIRTIO_BLK_S_OK.
    Ok,
    /// VIRTIO_BLK_S_IOERR.
    IoError,
    /// VIRTIO_BLK_S_UNSUPP.
    Unsupported,
    /// The device completed the request without writing a status.
    Missing,
    /// A number that means nothing.
    Unknown(u8),
}

/// What stands in the status byte before the device has written it.
pub(super) const STATUS_UNWRITTEN: u8 = 0xff;

impl Status {
    pub(super) fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Ok,
            1 => Self::IoError,
            2 => Self::Unsupported,
            STATUS_UNWRITTEN => Self::Missing,
            other => Self::Unknown(other),
        }
    }
}
