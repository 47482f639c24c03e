//! Compressed clusters.
//!
//! A cluster is decompressed as a whole, and the last one is kept: guests read in smaller pieces.
//! Output never exceeds a cluster, whatever the compressed bytes say, and a Zstandard frame may not ask
//! for a larger window than a cluster either.

use std::rc::Rc;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::Qcow2;
use super::header::Compression;
use super::open::read_bytes;
use crate::memory::Memory;
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

/// Window of deflate: readers of the format expect no more.
const WINDOW_BITS: u8 = 12;

/// Window of whoever may have written: deflate's largest.
const ANY_WINDOW: u8 = 15;

/// Largest window of Zstandard: of the largest cluster.
const ZSTD_WINDOW: u32 = 21;

impl<S: Storage> Qcow2<S> {
    pub(super) async fn read_compressed(
        &self,
        at: u64,
        len: u64,
        within: u64,
        into: Memory,
    ) -> Outcome {
        let cluster = self.unpack(at, len).await?;
        let from = (within as usize).min(cluster.len());
        into.copy_from(&cluster[from..(from + into.len() as usize).min(cluster.len())])
    }

    async fn unpack(&self, at: u64, len: u64) -> Result<Rc<[u8]>, Failure> {
        if let Some((of, bytes)) = &*self.unpacked.borrow()
            && *of == at
        {
            return Ok(Rc::clone(bytes));
        }
        let skip = at % 4096;
        let mut packed = read_bytes(&self.file, at - skip, (skip + len) as usize).await?;
        let packed = packed.split_off(skip as usize);
        let compression = self.state.borrow().header.compression;
        let cluster = self.geometry.cluster() as usize;
        let Some(bytes) = decompress(compression, &packed, cluster) else {
            let what = format!("the compressed cluster at {at:#x} cannot be decompressed");
            return Err(self.damaged(what));
        };
        let bytes: Rc<[u8]> = bytes.into();
        *self.unpacked.borrow_mut() = Some((at, Rc::clone(&bytes)));
        Ok(bytes)
    }
}

/// A whole cluster, or `None`.
fn decompress(compression: Compression, packed: &[u8], cluster: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; cluster];
    let done = match compression {
        Compression::Zlib => {
            let mut state = Decompress::new_with_window_bits(false, ANY_WINDOW);
            let status = state.decompress(packed, &mut bytes, FlushDecompress::Finish).ok()?;
            // A full cluster may come before the stream's end: what follows it is another's.
            let full = matches!(status, Status::StreamEnd | Status::Ok | Status::BufError);
            full && state.total_out() == cluster as u64
        }
        Compression::Zstd => unpack_zstd(packed, &mut bytes).is_some(),
    };
    done.then_some(bytes)
}

fn unpack_zstd(packed: &[u8], bytes: &mut [u8]) -> Option<()> {
    let mut decoder = Decoder::new().ok()?;
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW)).ok()?;
    let cluster = bytes.len();
    let mut input = InBuffer::around(packed);
    let mut output = OutBuffer::around(bytes);
    while output.pos() < cluster {
        let before = (input.pos(), output.pos());
        decoder.run(&mut input, &mut output).ok()?;
        if (input.pos(), output.pos()) == before {
            return None;
        }
    }
    Some(())
}

/// Compresses clusters, on any thread. It belongs to no image: bytes come and bytes go.
pub struct Packer {
    compression: Compression,
    cluster: usize,
    /// Made once: its tables are larger than most clusters.
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").field("compression", &self.compression).finish_non_exhaustive()
    }
}

impl Packer {
    pub(super) fn new(compression: Compression, cluster: u64) -> Self {
        let zstd = match compression {
            Compression::Zstd => zstd::bulk::Compressor::new(zstd::DEFAULT_COMPRESSION_LEVEL).ok(),
            Compression::Zlib => None,
        };
        Self { compression, cluster: cluster as usize, zstd }
    }

    /// The compressed bytes of a cluster, zeroes behind `bytes` included; `None` if they are no fewer.
    pub fn pack(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if bytes.len() == self.cluster {
            return self.pack_whole(bytes);
        }
        let mut whole = vec![0; self.cluster];
        whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
        self.pack_whole(&whole)
    }

    fn pack_whole(&mut self, cluster: &[u8]) -> Option<Vec<u8>> {
        match &mut self.zstd {
            Some(zstd) => {
                let packed = zstd.compress(cluster).ok()?;
                (packed.len() < cluster.len()).then_some(packed)
            }
            None => compress(self.compression, cluster),
        }
    }
}

/// The compressed bytes of a cluster; `None` if they are no fewer.
fn compress(compression: Compression, cluster: &[u8]) -> Option<Vec<u8>> {
    let packed = match compression {
        Compression::Zlib => {
            let mut packed = vec![0; cluster.len() - 1];
            let level = flate2::Compression::default();
            let mut state = Compress::new_with_window_bits(level, false, WINDOW_BITS);
            let status = state.compress(cluster, &mut packed, FlushCompress::Finish).ok()?;
            packed.truncate(state.total_out() as usize);
            (status == Status::StreamEnd).then_some(packed)
        }
        Compression::Zstd => zstd::bulk::compress(cluster, zstd::DEFAULT_COMPRESSION_LEVEL).ok(),
    }?;
    (packed.len() < cluster.len()).then_some(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_come_back_and_noise_is_not_compressed() {
        let text: Vec<u8> = (0..65536u32).map(|n| (n / 7 % 251) as u8).collect();
        let noise: Vec<u8> = (0..65536u32)
            .map(|n| (n.wrapping_mul(0x9e37_79b1) ^ n << 7) as u8 ^ (n >> 9) as u8)
            .collect();
        for compression in [Compression::Zlib, Compression::Zstd] {
            let mut packed = compress(compression, &text).expect("text can be compressed");
            packed.extend([0xA5; 300]);
            assert_eq!(decompress(compression, &packed, 65536).as_deref(), Some(&text[..]));
            assert_eq!(decompress(compression, &packed[..packed.len() / 2], 65536), None);
            assert_eq!(decompress(compression, &noise, 65536), None);
        }
    }
}
