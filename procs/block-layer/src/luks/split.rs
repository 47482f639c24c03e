//! The anti-forensic splitter: a key spread over so much room that wiping any part of it wipes the key.

use ring::digest::{Algorithm, Context};

use super::Secret;

/// The key of `len` bytes that was spread over `stripes`; what is not there counts as zeroes.
pub fn merge(algorithm: &'static Algorithm, split: &[u8], len: usize, stripes: u32) -> Secret {
    let mut key = Secret::new(vec![0; len]);
    for (number, stripe) in split.chunks(len.max(1)).take(stripes as usize).enumerate() {
        if number > 0 {
            diffuse(algorithm, &mut key);
        }
        key.iter_mut().zip(stripe).for_each(|(byte, other)| *byte ^= other);
    }
    key
}

/// Spreads `key` over `stripes`, all of which but the last are `noise`.
pub fn split(algorithm: &'static Algorithm, key: &[u8], noise: &[u8]) -> Secret {
    let mut sum = Secret::new(vec![0; key.len()]);
    for stripe in noise.chunks_exact(key.len()) {
        sum.iter_mut().zip(stripe).for_each(|(byte, other)| *byte ^= other);
        diffuse(algorithm, &mut sum);
    }
    let last = sum.iter().zip(key).map(|(byte, other)| byte ^ other);
    Secret::new(noise.iter().copied().chain(last).collect())
}

/// Replaces each piece of a digest's length by the digest of its number and itself.
fn diffuse(algorithm: &'static Algorithm, bytes: &mut [u8]) {
    for (number, piece) in (0u32..).zip(bytes.chunks_mut(algorithm.output_len())) {
        let mut context = Context::new(algorithm);
        context.update(&number.to_be_bytes());
        context.update(piece);
        let digest = context.finish();
        piece.copy_from_slice(&digest.as_ref()[..piece.len()]);
    }
}

#[cfg(test)]
mod tests {
    use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256};

    use super::*;

    #[test]
    fn what_was_split_is_merged_and_one_bit_less_is_nothing() {
        for algorithm in [&SHA256, &SHA1_FOR_LEGACY_USE_ONLY] {
            let key: Vec<u8> = (0..64).collect();
            let noise: Vec<u8> = (0..64 * 99).map(|n| (n * 7 % 251) as u8).collect();
            let mut there = split(algorithm, &key, &noise);
            assert_eq!(there.len(), 6400);
            assert_eq!(*merge(algorithm, &there, 64, 100), key);
            there[1000] ^= 1;
            assert_ne!(*merge(algorithm, &there, 64, 100), key);
        }
    }
}
