use ctutils::CtEq;
use sha1::block_api::compress;
use sha1::{Digest, Sha1};

/// The cluster's HMAC key, its two pad blocks hashed once.
///
/// All bytes of `hmac.key` count, a trailing newline included (`Ganeti.Confd.Utils.getClusterHmac`).
#[derive(Clone)]
pub struct Key {
    inner: State,
    outer: State,
}

/// The five words of SHA-1 between two blocks.
type State = [u32; 5];

/// Bytes of a block of SHA-1, and of HMAC's pads.
const BLOCK: usize = 64;

/// Where SHA-1 starts from (FIPS 180-4, 5.3.1).
const INITIAL: State = [
    0x6745_2301,
    0xefcd_ab89,
    0x98ba_dcfe,
    0x1032_5476,
    0xc3d2_e1f0,
];

/// An `hmac.key` without a byte in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyKey;

impl std::fmt::Display for EmptyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the key is empty")
    }
}

impl std::error::Error for EmptyKey {}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// Prepares a key from the bytes of `hmac.key`.
    ///
    /// # Errors
    ///
    /// [`EmptyKey`]: anybody could sign with it.
    pub fn new(bytes: &[u8]) -> Result<Self, EmptyKey> {
        if bytes.is_empty() {
            return Err(EmptyKey);
        }
        let mut block = [0; BLOCK];
        match block.get_mut(..bytes.len()) {
            Some(start) => start.copy_from_slice(bytes),
            None => block[..20].copy_from_slice(&Sha1::digest(bytes)),
        }
        let padded = |pad: u8| {
            let mut state = INITIAL;
            compress(&mut state, &[block.map(|byte| byte ^ pad)]);
            state
        };
        Ok(Self {
            inner: padded(0x36),
            outer: padded(0x5c),
        })
    }

    /// HMAC-SHA1 over `salt` and `message`, in this order, with nothing between them.
    pub fn sign(&self, salt: &[u8], message: &[u8]) -> [u8; 20] {
        let digest = hash(self.inner, [salt, message]);
        hash(self.outer, [&digest, &[]])
    }

    /// Whether `tag` signs `salt` and `message`, compared in constant time.
    pub fn verify(&self, salt: &[u8], message: &[u8], tag: &[u8; 20]) -> bool {
        self.sign(salt, message).ct_eq(tag).into()
    }
}

/// SHA-1 of a pad block, whose hash `state` is, and `pieces`.
///
/// The streaming hashers copy a state of two hundred bytes per signature and buffer all they hash; most messages here are a
/// block or two.
fn hash(mut state: State, pieces: [&[u8]; 2]) -> [u8; 20] {
    let mut block = [0; BLOCK];
    let mut filled = 0;
    for mut piece in pieces {
        if filled > 0 {
            let (head, rest) = piece.split_at(piece.len().min(BLOCK - filled));
            block[filled..filled + head.len()].copy_from_slice(head);
            filled += head.len();
            if filled < BLOCK {
                continue;
            }
            compress(&mut state, &[block]);
            piece = rest;
        }
        let (blocks, rest) = piece.as_chunks();
        compress(&mut state, blocks);
        block[..rest.len()].copy_from_slice(rest);
        filled = rest.len();
    }
    let bits = 8 * (BLOCK + pieces[0].len() + pieces[1].len()) as u64;
    block[filled] = 0x80;
    block[filled + 1..].fill(0);
    if filled >= BLOCK - 8 {
        compress(&mut state, &[block]);
        block.fill(0);
    }
    block[BLOCK - 8..].copy_from_slice(&bits.to_be_bytes());
    compress(&mut state, &[block]);
    let mut digest = [0; 20];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit, Mac};

    use super::*;

    #[test]
    fn signs_as_hmac_says_whatever_the_lengths() {
        let bytes: Vec<u8> = (0..300_usize).map(|at| (at * 7) as u8).collect();
        for key in [1, 20, 63, 64, 65, 200] {
            let ours = Key::new(&bytes[..key]).expect("the key has bytes");
            let theirs = Hmac::<Sha1>::new_from_slice(&bytes[..key]).expect("any length");
            for salt in [0, 1, 10, 36, 55, 63, 64, 65, 128, 150] {
                for message in 0..150 {
                    let text = &bytes[..salt + message];
                    let (salt, message) = text.split_at(salt);
                    let expected: [u8; 20] = theirs
                        .clone()
                        .chain_update(text)
                        .finalize()
                        .into_bytes()
                        .into();
                    assert_eq!(ours.sign(salt, message), expected);
                    assert!(ours.verify(salt, message, &expected));
                    let mut wrong = expected;
                    wrong[text.len() % 20] ^= 0x10;
                    assert!(!ours.verify(salt, message, &wrong));
                }
            }
        }
    }
}
