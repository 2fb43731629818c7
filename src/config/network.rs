//! Field table of networks.
//!
//! Source: `Ganeti.Objects` (`Network`) and `Ganeti.Objects.BitArray`.

use super::error::{Problem, quoted};
use super::number;
use super::schema::{FieldType, Place, Record, default, expected, optional};
use super::value::Value;
use super::writer::{Writer, expect, text};

pub(super) static NETWORK: Record = Record {
    name: "Network",
    fields: &[
        expected("name", FieldType::NonEmpty),
        optional("mac_prefix", FieldType::String),
        expected("network", FieldType::Custom(ip4_network)),
        optional("network6", FieldType::String),
        optional("gateway", FieldType::Custom(ip4_address)),
        optional("gateway6", FieldType::String),
        optional("reservations", FieldType::Custom(bit_string)),
        optional("ext_reservations", FieldType::Custom(bit_string)),
        expected("uuid", FieldType::Uuid),
        default("ctime", FieldType::Time, "0"),
        default("mtime", FieldType::Time, "0"),
        expected("serial_no", FieldType::Int),
        default("tags", FieldType::Set, "[]"),
    ],
};

/// Writes an IPv4 address as plain decimals.
fn ip4_address(writer: &mut Writer<'_>, value: Value<'_>, _: &Place<'_>) -> Result<(), Problem> {
    let text = text(value)?;
    let address = parse_address(&text)
        .ok_or_else(|| Problem::Mismatch(format!("{} is not an IPv4 address", quoted(&text))))?;
    writer.string(&address);
    Ok(())
}

/// Writes an IPv4 network, address and prefix length; host bits are kept.
fn ip4_network(writer: &mut Writer<'_>, value: Value<'_>, _: &Place<'_>) -> Result<(), Problem> {
    let text = text(value)?;
    let network = parse_network(&text)
        .ok_or_else(|| Problem::Mismatch(format!("{} is not an IPv4 network", quoted(&text))))?;
    writer.string(&network);
    Ok(())
}

/// The plain form of four numbers, each read as Haskell reads a `Word8`: wrapped to a byte.
fn parse_address(text: &str) -> Option<String> {
    let octets: Vec<_> = text.split('.').map(read_byte).collect::<Option<_>>()?;
    let [a, b, c, d] = octets.try_into().ok()?;
    Some(format!("{a}.{b}.{c}.{d}"))
}

/// The plain form of an address and a prefix length of at most 32.
fn parse_network(text: &str) -> Option<String> {
    let (address, mask) = text.split_once('/')?;
    let mask = read_byte(mask).filter(|mask| *mask <= 32)?;
    Some(format!("{}/{mask}", parse_address(address)?))
}

/// A whole number and nothing after it, wrapped to a byte.
fn read_byte(text: &str) -> Option<u8> {
    let (value, rest) = number::read_int(text)?;
    rest.is_empty().then_some(value as u8)
}

/// Writes a string of zeros and ones.
fn bit_string(writer: &mut Writer<'_>, value: Value<'_>, _: &Place<'_>) -> Result<(), Problem> {
    let text = expect(value, "a string", value.as_str())?;
    if let Some(other) = text.chars().find(|bit| !matches!(bit, '0' | '1')) {
        return Err(Problem::Mismatch(format!(
            "{other:?} is not a bit (0 or 1)"
        )));
    }
    writer.string(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_and_prefix_lengths_wrap_to_a_byte() {
        for (text, expected) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("1.2.3.300", Some("1.2.3.44")),
            ("01.02.03.04", Some("1.2.3.4")),
            ("-1.2.3.4", Some("255.2.3.4")),
            (" 1.0x2.(3).0o4", Some("1.2.3.4")),
            ("1.2.3", None),
            ("1.2.3.4.5", None),
            ("1.2.3.4x", None),
        ] {
            assert_eq!(parse_address(text).as_deref(), expected, "{text:?}");
        }
        assert_eq!(parse_network("10.0.0.7/24").as_deref(), Some("10.0.0.7/24"));
        assert_eq!(parse_network("10.0.0.0/256").as_deref(), Some("10.0.0.0/0"));
        assert_eq!(parse_network("10.0.0.0/33"), None);
        assert_eq!(parse_network("10.0.0.0"), None);
    }
}
