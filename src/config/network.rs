//! Networks.
//!
//! Source: the reference's object model, 4.9; `Ganeti.Objects` (`Network`), `Ganeti.Objects.BitArray`.

use super::schema::{Record, Type, Writer, default, expect, optional, required, text};
use super::value::Value;
use super::{Error, number};

pub(super) static NETWORK: Record = Record {
    name: "Network",
    fields: &[
        required("name", Type::NonEmpty),
        optional("mac_prefix", Type::String),
        required("network", Type::Custom(ip4_network)),
        optional("network6", Type::String),
        optional("gateway", Type::Custom(ip4_address)),
        optional("gateway6", Type::String),
        optional("reservations", Type::Custom(bit_string)),
        optional("ext_reservations", Type::Custom(bit_string)),
        required("uuid", Type::Uuid),
        default("ctime", Type::Time, "0"),
        default("mtime", Type::Time, "0"),
        required("serial_no", Type::Int),
        default("tags", Type::Set, "[]"),
    ],
};

fn ip4_address(writer: &mut Writer<'_>, value: Value<'_>, _: Value<'_>) -> Result<(), Error> {
    let text = text(value)?;
    let address = parse_address(&text)
        .ok_or_else(|| Error::new(format!("\"{}\" is no IPv4 address", text.escape_debug())))?;
    writer.string(&address)
}

fn ip4_network(writer: &mut Writer<'_>, value: Value<'_>, _: Value<'_>) -> Result<(), Error> {
    let text = text(value)?;
    let network = parse_network(&text)
        .ok_or_else(|| Error::new(format!("\"{}\" is no IPv4 network", text.escape_debug())))?;
    writer.string(&network)
}

/// Four numbers, each as Haskell reads a `Word8`: wrapped to a byte.
fn parse_address(text: &str) -> Option<String> {
    let octets: Vec<_> = text.split('.').map(read_byte).collect::<Option<_>>()?;
    let [a, b, c, d] = octets.try_into().ok()?;
    Some(format!("{a}.{b}.{c}.{d}"))
}

fn parse_network(text: &str) -> Option<String> {
    let (address, mask) = text.split_once('/')?;
    let mask = read_byte(mask).filter(|mask| *mask <= 32)?;
    Some(format!("{}/{mask}", parse_address(address)?))
}

fn read_byte(text: &str) -> Option<u8> {
    let (value, rest) = number::read_int(text)?;
    rest.is_empty().then_some(value as u8)
}

fn bit_string(writer: &mut Writer<'_>, value: Value<'_>, _: Value<'_>) -> Result<(), Error> {
    let text = expect(value, "a string", value.as_str())?;
    if let Some(other) = text.chars().find(|bit| !matches!(bit, '0' | '1')) {
        return Err(Error::new(format!("neither '0' nor '1': {other:?}")));
    }
    writer.string(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_wrap_as_the_reference_s_do() {
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
