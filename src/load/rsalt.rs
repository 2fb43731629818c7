//! The reply salts of one run: 36 characters like the UUIDs that Ganeti's clients send, which lead a reply back to its
//! place in the table of requests in flight without a search.
//!
//! ```text
//! 5f1c0a9be2d47733-tt-ssssss-gggggggg     as hexadecimal digits, grouped as a UUID
//! run (64 bits)    thread slot generation
//! ```
//!
//! The run is random: no reply to another run, or to another client, is taken for one of ours.

/// Length of a reply salt.
pub(super) const RSALT_BYTES: usize = 36;

/// Length of the part that all reply salts of a run have in common, up to and including the third hyphen.
const RUN_BYTES: usize = 19;

/// Slots that can be told apart.
pub(super) const SLOTS_MAX: usize = 1 << 24;

const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// Which request of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tag {
    /// The worker that sent it.
    pub(super) thread: u8,
    /// Its place in that worker's table; below [`SLOTS_MAX`].
    pub(super) slot: u32,
    /// How often that place was used before.
    pub(super) generation: u32,
}

impl Tag {
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

/// The reply salts of one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run(pub(super) u64);

impl Run {
    /// The reply salt of `tag`.
    pub(super) fn rsalt(self, tag: Tag) -> [u8; RSALT_BYTES] {
        let number = u128::from(self.0) << 64 | u128::from(tag.number());
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

    /// The tag of a reply, wherever it has its salt; `None` if none of this run's is in it.
    ///
    /// Looks first where the reference writes it: at the end.
    pub(super) fn find(self, reply: &[u8]) -> Option<Tag> {
        let end = reply.len().checked_sub(br#""}"#.len())?;
        let usual = end.checked_sub(RSALT_BYTES)?;
        self.read(&reply[usual..end]).or_else(|| {
            let zero = Tag::from_number(0);
            let common = &self.rsalt(zero)[..RUN_BYTES];
            let at = memchr::memmem::find(reply, common)?;
            self.read(reply.get(at..at + RSALT_BYTES)?)
        })
    }

    fn read(self, text: &[u8]) -> Option<Tag> {
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
        ((number >> 64) as u64 == self.0).then(|| Tag::from_number(number as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: Tag = Tag {
        thread: 3,
        slot: 0x00ab_cdef,
        generation: 0xffff_fffe,
    };

    #[test]
    fn a_reply_leads_back_to_its_request() {
        let run = Run(0x0123_4567_89ab_cdef);
        let rsalt = run.rsalt(TAG);
        assert_eq!(&rsalt, b"01234567-89ab-cdef-03ab-cdeffffffffe");
        let mut reply = br#"plj0{"hmac":"x","msg":"y","salt":""#.to_vec();
        reply.extend_from_slice(&rsalt);
        reply.extend_from_slice(br#""}"#);
        assert_eq!(run.find(&reply), Some(TAG));
        assert_eq!(Run(1).find(&reply), None);
    }

    #[test]
    fn other_layouts_are_searched() {
        let run = Run(u64::MAX);
        let mut reply = br#"plj0{"salt": ""#.to_vec();
        reply.extend_from_slice(&run.rsalt(TAG));
        reply.extend_from_slice(br#"", "msg": "y", "hmac": "x"}"#);
        assert_eq!(run.find(&reply), Some(TAG));
        for len in 0..30 {
            assert_eq!(run.find(&reply[..len]), None);
        }
    }
}
