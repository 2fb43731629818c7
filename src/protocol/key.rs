use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// The cluster's HMAC key, its two pad blocks hashed once.
///
/// All bytes of `hmac.key` count, a trailing newline included (`Ganeti.Confd.Utils.getClusterHmac`).
#[derive(Clone)]
pub struct Key(Hmac<Sha1>);

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
        Ok(Self(
            Hmac::new_from_slice(bytes).expect("HMAC takes keys of any length"),
        ))
    }

    /// HMAC-SHA1 over `salt` and `message`, in this order, with nothing between them.
    pub fn sign(&self, salt: &[u8], message: &[u8]) -> [u8; 20] {
        let mut mac = self.0.clone();
        mac.update(salt);
        mac.update(message);
        mac.finalize().into_bytes().into()
    }

    /// Whether `tag` signs `salt` and `message`, compared in constant time.
    pub fn verify(&self, salt: &[u8], message: &[u8], tag: &[u8; 20]) -> bool {
        let mut mac = self.0.clone();
        mac.update(salt);
        mac.update(message);
        mac.verify_slice(tag).is_ok()
    }
}
