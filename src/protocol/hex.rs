//! HMAC tags as hexadecimal digits, eight digits at a time in one word.

use crate::json::splat;

/// Decodes 40 hex digits of either case; `None` for anything else.
pub(crate) fn decode(digits: &[u8]) -> Option<[u8; 20]> {
    let digits: &[u8; 40] = digits.try_into().ok()?;
    let mut tag = [0; 20];
    let mut wrong = 0;
    for (bytes, digits) in tag.chunks_exact_mut(4).zip(digits.as_chunks().0) {
        let digits = u64::from_be_bytes(*digits);
        let letters = digits & splat(1 << 6);
        let nibbles = ((digits & splat(15)) + 9 * (letters >> 6)) & splat(15);
        // Valid if encoding the nibbles again returns the digits, in lower case.
        wrong |= to_digits(nibbles) ^ (digits | letters >> 1);
        let pairs = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
        let quads = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
        bytes.copy_from_slice(&((quads | quads >> 16) as u32).to_be_bytes());
    }
    (wrong == 0).then_some(tag)
}

/// Encodes `tag` as lower-case hex digits into `digits`, which must hold 40 bytes.
pub(crate) fn encode(tag: &[u8; 20], digits: &mut [u8]) {
    for (digits, bytes) in digits.chunks_exact_mut(8).zip(tag.as_chunks().0) {
        let quads = u64::from(u32::from_be_bytes(*bytes));
        let pairs = (quads | quads << 16) & 0x0000_ffff_0000_ffff;
        let bytes = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
        let nibbles = (bytes | bytes << 4) & splat(15);
        digits.copy_from_slice(&to_digits(nibbles).to_be_bytes());
    }
}

/// Returns the digits of eight nibbles; each byte of the word holds one.
const fn to_digits(nibbles: u64) -> u64 {
    let letters = (nibbles + splat(6)) >> 4 & splat(1);
    nibbles + splat(b'0') + (b'a' - b'9' - 1) as u64 * letters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_encoded_and_decoded() {
        let tag: [u8; 20] = std::array::from_fn(|at| (at * 31 + 0x9a) as u8);
        let mut digits = [0; 40];
        encode(&tag, &mut digits);
        let expected: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digits, expected.as_bytes());
        assert_eq!(decode(&digits.to_ascii_uppercase()), Some(tag));
        assert_eq!(decode(&digits[1..]), None);
    }

    #[test]
    fn only_hexadecimal_digits_are_decoded() {
        for byte in 0..=255_u8 {
            for at in [0, 7, 8, 39] {
                let mut digits = *b"00112233445566778899aAbBcCdDeEfF01234567";
                digits[at] = byte;
                let value = (byte as char).to_digit(16);
                let decoded = decode(&digits).map(|tag| match at % 2 {
                    0 => tag[at / 2] >> 4,
                    _ => tag[at / 2] & 15,
                });
                assert_eq!(decoded.map(u32::from), value, "{byte:#x} at {at}");
            }
        }
    }
}
