//! The reply salts of one run: 36 characters in the form of a UUID, as Ganeti's clients send them.
//! A salt holds the position of the request in the table of requests in flight, so that a reply is
//! matched without a search.
//!
//! ```text
//! 5f1c0a9be2d47733-tt-ssssss-gggggggg     as hexadecimal digits, grouped as a UUID
//! run (64 bits)    thread slot generation
//! ```
//!
//! The run is random, so that replies to another run or another client are not mistaken for ours.

/// Length of a reply salt in bytes.
pub(super) const RSALT_BYTES: usize = 36;

/// Length of the prefix that all reply salts of a run share.
const RUN_BYTES: usize = 19;

/// Number of slots that a salt can express.
pub(super) const SLOTS_MAX: usize = 1 << 24;

const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// Identifies a request within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RequestId {
    /// The worker that sent it.
    pub(super) thread: u8,
    /// Its slot in that worker's table; below [`SLOTS_MAX`].
    pub(super) slot: u32,
    /// Number of requests in that slot so far.
    pub(super) generation: u32,
}

impl RequestId {
    fn number(self) -> u64 {
        u64::from(self.thread) << 56 | u64::from(self.slot) << 32 | u64::from(self.generation)
    }

    fn from_number(number: u64) -> Self {
        Self {
            thread: (number >> 56) as u8,
            slot: (number >> 32) as u32 & (SLOTS_MAX as u32 - 1),
            generation: number as u32,
        }
    }
}

/// Identifies a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunId(pub(super) u64);

impl RunId {
    /// The reply salt of a request.
    pub(super) fn rsalt(self, id: RequestId) -> [u8; RSALT_BYTES] {
        let number = u128::from(self.0) << 64 | u128::from(id.number());
        let mut text = [b'-'; RSALT_BYTES];
        let mut shift = 128;
        for (at, byte) in text.iter_mut().enumerate() {
            if !HYPHENS.contains(&at) {
                shift -= 4;
                *byte = b"0123456789abcdef"[(number >> shift) as usize & 15];
            }
        }
        text
    }

    /// Finds the salt in a reply; `None` if it contains no salt of this run.
    ///
    /// Tries the end of the reply first, where the reference writes the salt, then searches.
    pub(super) fn find(self, reply: &[u8]) -> Option<RequestId> {
        let end = reply.len().checked_sub(br#""}"#.len())?;
        let usual = end.checked_sub(RSALT_BYTES)?;
        self.read(&reply[usual..end]).or_else(|| {
            let zero = RequestId::from_number(0);
            let common = &self.rsalt(zero)[..RUN_BYTES];
            let at = memchr::memmem::find(reply, common)?;
            self.read(reply.get(at..at + RSALT_BYTES)?)
        })
    }

    fn read(self, text: &[u8]) -> Option<RequestId> {
        let mut number = 0_u128;
        for (at, &byte) in text.iter().enumerate() {
            if HYPHENS.contains(&at) {
                if byte != b'-' {
                    return None;
                }
            } else {
                number = number << 4 | u128::from(char::from(byte).to_digit(16)?);
            }
        }
        ((number >> 64) as u64 == self.0).then(|| RequestId::from_number(number as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: RequestId = RequestId {
        thread: 3,
        slot: 0x00ab_cdef,
        generation: 0xffff_fffe,
    };

    #[test]
    fn a_reply_identifies_its_request() {
        let run = RunId(0x0123_4567_89ab_cdef);
        let rsalt = run.rsalt(ID);
        assert_eq!(&rsalt, b"01234567-89ab-cdef-03ab-cdeffffffffe");
        let mut reply = br#"plj0{"hmac":"x","msg":"y","salt":""#.to_vec();
        reply.extend_from_slice(&rsalt);
        reply.extend_from_slice(br#""}"#);
        assert_eq!(run.find(&reply), Some(ID));
        assert_eq!(RunId(1).find(&reply), None);
    }

    #[test]
    fn other_layouts_are_searched() {
        let run = RunId(u64::MAX);
        let mut reply = br#"plj0{"salt": ""#.to_vec();
        reply.extend_from_slice(&run.rsalt(ID));
        reply.extend_from_slice(br#"", "msg": "y", "hmac": "x"}"#);
        assert_eq!(run.find(&reply), Some(ID));
        for len in 0..30 {
            assert_eq!(run.find(&reply[..len]), None);
        }
    }
}
