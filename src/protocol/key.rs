use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// The cluster's HMAC-SHA1 key, prepared: both of HMAC's pad blocks are hashed once.
///
/// Every byte of `hmac.key` counts, including a trailing newline
/// (`Ganeti.Confd.Utils.getClusterHmac`). The prepared state is zeroed when the key is dropped.
#[derive(Clone)]
pub struct Key(Hmac<Sha1>);

/// The error for an `hmac.key` without content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyKey;

impl fmt::Display for EmptyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the key is empty")
    }
}

impl std::error::Error for EmptyKey {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Compares what the keys sign, in constant time: a prepared key no longer holds its bytes.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.verify(b"", b"", &other.sign(b"", b""))
    }
}

impl Eq for Key {}

impl From<&Self> for Key {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

/// See [`Key::new`].
impl TryFrom<&[u8]> for Key {
    type Error = EmptyKey;

    fn try_from(bytes: &[u8]) -> Result<Self, EmptyKey> {
        Self::new(bytes)
    }
}

/// See [`Key::new`].
impl<const N: usize> TryFrom<&[u8; N]> for Key {
    type Error = EmptyKey;

    fn try_from(bytes: &[u8; N]) -> Result<Self, EmptyKey> {
        Self::new(bytes)
    }
}

/// See [`Key::new`].
impl TryFrom<Vec<u8>> for Key {
    type Error = EmptyKey;

    fn try_from(bytes: Vec<u8>) -> Result<Self, EmptyKey> {
        Self::new(&bytes)
    }
}

/// See [`Key::new`].
impl TryFrom<&Vec<u8>> for Key {
    type Error = EmptyKey;

    fn try_from(bytes: &Vec<u8>) -> Result<Self, EmptyKey> {
        Self::new(bytes)
    }
}

impl Key {
    /// Prepares a key from the bytes of `hmac.key`.
    ///
    /// # Errors
    ///
    /// [`EmptyKey`] if there are none: anyone could sign with it.
    pub fn new(bytes: &[u8]) -> Result<Self, EmptyKey> {
        if bytes.is_empty() {
            return Err(EmptyKey);
        }
        let mac = Hmac::new_from_slice(bytes).expect("HMAC takes keys of any length");
        Ok(Self(mac))
    }

    /// Returns HMAC-SHA1 over `salt` followed by `message`, with nothing between them.
    pub fn sign(&self, salt: &[u8], message: &[u8]) -> [u8; 20] {
        let mac = self.0.clone().chain_update(salt).chain_update(message);
        mac.finalize().into_bytes().into()
    }

    /// Whether `tag` signs `salt` and `message`; compares in constant time.
    pub fn verify(&self, salt: &[u8], message: &[u8], tag: &[u8; 20]) -> bool {
        let mac = self.0.clone().chain_update(salt).chain_update(message);
        mac.verify_slice(tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::hex;

    /// The test cases of RFC 2202, section 3: key, data, digest.
    fn vectors() -> [(Vec<u8>, Vec<u8>, &'static str); 7] {
        let counting = (1..=25).collect();
        [
            (
                vec![0x0b; 20],
                b"Hi There".to_vec(),
                "b617318655057264e28bc0b6fb378c8ef146be00",
            ),
            (
                b"Jefe".to_vec(),
                b"what do ya want for nothing?".to_vec(),
                "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
            ),
            (
                vec![0xaa; 20],
                vec![0xdd; 50],
                "125d7342b9ac11cd91a39af48aa17b4f63f175d3",
            ),
            (
                counting,
                vec![0xcd; 50],
                "4c9007f4026250c6bc8414f9bf50c86c2d7235da",
            ),
            (
                vec![0x0c; 20],
                b"Test With Truncation".to_vec(),
                "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04",
            ),
            (
                vec![0xaa; 80],
                b"Test Using Larger Than Block-Size Key - Hash Key First".to_vec(),
                "aa4ae5e15272d00e95705637ce8a3b55ed402112",
            ),
            (
                vec![0xaa; 80],
                b"Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data"
                    .to_vec(),
                "e8e99d0f45237d786d6bbaa7965c7808bbff1a91",
            ),
        ]
    }

    #[test]
    fn signs_the_vectors_of_rfc_2202_wherever_the_salt_ends() {
        for (key, data, digest) in vectors() {
            let key = Key::new(&key).expect("the key has bytes");
            let expected = hex::decode(digest.as_bytes()).expect("hexadecimal digits");
            for salt_len in 0..=data.len() {
                let (salt, message) = data.split_at(salt_len);
                assert_eq!(key.sign(salt, message), expected);
                assert!(key.verify(salt, message, &expected));
                let mut wrong = expected;
                wrong[salt_len % 20] ^= 0x10;
                assert!(!key.verify(salt, message, &wrong));
            }
        }
    }

    /// Lengths around the block size, for salt and message: the tag depends only on their
    /// concatenation.
    #[test]
    fn signs_the_concatenation_of_salt_and_message() {
        let bytes: Vec<u8> = (0..300_usize).map(|at| (at * 7) as u8).collect();
        for key_len in [1, 20, 63, 64, 65, 200] {
            let key = Key::new(&bytes[..key_len]).expect("the key has bytes");
            for salt_len in [0, 1, 10, 36, 55, 63, 64, 65, 128, 150] {
                for message_len in 0..150 {
                    let text = &bytes[..salt_len + message_len];
                    let (salt, message) = text.split_at(salt_len);
                    assert_eq!(key.sign(salt, message), key.sign(b"", text));
                }
            }
        }
    }

    #[test]
    fn keys_are_equal_if_their_bytes_are() {
        let key = |bytes| Key::new(bytes).expect("the key has bytes");
        assert_eq!(key(b"secret"), key(b"secret"));
        assert_ne!(key(b"secret"), key(b"secret\n"));
        assert_eq!(Key::new(b""), Err(EmptyKey));
    }
}
