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
        let inner = hash(self.inner, salt, message);
        let mut block = [0; BLOCK];
        block[..20].copy_from_slice(&bytes(inner));
        bytes(finish(self.outer, block, BLOCK + 20))
    }

    /// Whether `tag` signs `salt` and `message`, compared in constant time.
    pub fn verify(&self, salt: &[u8], message: &[u8], tag: &[u8; 20]) -> bool {
        self.sign(salt, message).ct_eq(tag).into()
    }
}

/// SHA-1 of a pad block, whose hash is `state`, then `salt` and `message`.
///
/// The streaming hashers copy a state of two hundred bytes per signature and buffer all they hash; most messages here are a
/// block or two.
fn hash(mut state: State, salt: &[u8], message: &[u8]) -> State {
    let (salt_blocks, salt_rest) = salt.as_chunks();
    if !salt_blocks.is_empty() {
        compress(&mut state, salt_blocks);
    }
    let mut block = [0; BLOCK];
    block[..salt_rest.len()].copy_from_slice(salt_rest);
    let mut filled = salt_rest.len();
    let (head, message_rest) = message.split_at(message.len().min(BLOCK - filled));
    block[filled..filled + head.len()].copy_from_slice(head);
    filled += head.len();
    if filled == BLOCK {
        compress(&mut state, &[block]);
        let (blocks, rest) = message_rest.as_chunks();
        if !blocks.is_empty() {
            compress(&mut state, blocks);
        }
        block = [0; BLOCK];
        block[..rest.len()].copy_from_slice(rest);
    }
    finish(state, block, BLOCK + salt.len() + message.len())
}

/// Hashes the last bytes of `len` in all: those that do not fill a block, at the start of `block`, which is zero behind them.
#[inline]
fn finish(mut state: State, mut block: [u8; BLOCK], len: usize) -> State {
    let filled = len % BLOCK;
    block[filled] = 0x80;
    if filled >= BLOCK - 8 {
        compress(&mut state, &[block]);
        block = [0; BLOCK];
    }
    block[BLOCK - 8..].copy_from_slice(&(8 * len as u64).to_be_bytes());
    compress(&mut state, &[block]);
    state
}

/// A hash as it is written: its words from the high byte on.
fn bytes(state: State) -> [u8; 20] {
    let mut bytes = [0; 20];
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    bytes
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
