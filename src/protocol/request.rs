//! The inner message of a request.
//!
//! ```json
//! {"protocol": 1, "type": 2, "query": {"0": "br0", "1": "192.0.2.7"}, "rsalt": "any text"}
//! ```

pub use super::request_type::RequestType;

/// A valid request, borrowed from its datagram.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The type.
    pub kind: RequestType,
    /// The argument.
    pub query: Query<'a>,
    /// The salt of the reply; UTF-8.
    pub rsalt: &'a [u8],
}

/// A request's argument (`ConfdQuery`).
#[derive(Debug, Clone, Copy)]
pub enum Query<'a> {
    /// Missing or null.
    Empty,
    /// A string: a name, a link or a path.
    Plain(&'a str),
    /// An object.
    Dict(DictQuery<'a>),
}

/// An argument that is an object (`ConfdReqQ`): keys `"0"` to `"3"`, all optional.
#[derive(Debug, Clone, Copy, Default)]
pub struct DictQuery<'a> {
    /// `"0"`: a link.
    pub link: Option<&'a str>,
    /// `"1"`: an address.
    pub ip: Option<&'a str>,
    /// `"2"`: each string after its length, two bytes in little-endian order.
    pub(super) ip_list: &'a [u8],
    /// `"3"`: a byte for each field, its number.
    pub(super) fields: &'a [u8],
}

/// A field of the answer about the master (`ConfdReqField`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReqField {
    /// The master's name.
    Name,
    /// The cluster's address.
    Ip,
    /// The master's primary address.
    MNodePip,
}

impl ReqField {
    /// The field with this number on the wire.
    pub(super) const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Name),
            1 => Some(Self::Ip),
            2 => Some(Self::MNodePip),
            _ => None,
        }
    }
}

impl<'a> DictQuery<'a> {
    /// `"2"`: addresses; UTF-8.
    pub fn ip_list(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.ip_list;
        std::iter::from_fn(move || {
            let (len, after) = rest.split_first_chunk()?;
            let (ip, after) = after.split_at_checked(u16::from_le_bytes(*len).into())?;
            rest = after;
            Some(ip)
        })
    }

    /// `"3"`: fields.
    pub fn fields(&self) -> impl Iterator<Item = ReqField> + use<'a> {
        self.fields
            .iter()
            .filter_map(|&number| ReqField::from_number(number))
    }
}
