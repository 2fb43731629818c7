//! The inner message of a request.
//!
//! ```json
//! {"protocol": 1, "type": 2, "query": {"0": "br0", "1": "192.0.2.7"}, "rsalt": "any text"}
//! ```

use simd_json::{Node, StaticNode};

use super::Parser;
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
    ip_list: &'a [Node<'a>],
    fields: &'a [Node<'a>],
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

impl<'a> DictQuery<'a> {
    /// `"2"`: addresses.
    pub fn ip_list(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.ip_list.iter().filter_map(as_str)
    }

    /// `"3"`: fields.
    pub fn fields(&self) -> impl Iterator<Item = ReqField> + use<'a> {
        self.fields.iter().filter_map(field)
    }

    /// Reads an object from the nodes of its members.
    fn from_members(members: &'a [Node<'a>]) -> Option<Self> {
        let mut dict = Self::default();
        let mut seen = [false; 4];
        let mut rest = members;
        while let [Node::String(key), tail @ ..] = rest {
            let index = ["0", "1", "2", "3"].iter().position(|known| known == key)?;
            if std::mem::replace(&mut seen[index], true) {
                return None;
            }
            let (value, children, tail) = split_value(tail)?;
            match (index, value) {
                (_, Node::Static(StaticNode::Null)) => {}
                (0, Node::String(link)) => dict.link = Some(link),
                (1, Node::String(ip)) => dict.ip = Some(ip),
                (2, Node::Array { .. }) if children.iter().all(|ip| as_str(ip).is_some()) => {
                    dict.ip_list = children;
                }
                (3, Node::Array { .. }) if is_field_list(children) => {
                    dict.fields = children;
                }
                _ => return None,
            }
            rest = tail;
        }
        Some(dict)
    }
}

impl<'a> Request<'a> {
    /// As [`Request::read`], always with the general parser.
    pub fn parse<R>(
        parser: &mut Parser,
        text: &mut [u8],
        len: usize,
        then: impl FnOnce(&Request<'_>) -> R,
    ) -> Option<R> {
        if text.first() != Some(&b'{') {
            return None;
        }
        let read = |nodes: &[Node<'_>]| Request::from_nodes(nodes).map(|request| then(&request));
        parser.parse(text, len, read).flatten()
    }

    fn from_nodes(nodes: &'a [Node<'a>]) -> Option<Self> {
        let [Node::Object { .. }, members @ ..] = nodes else {
            return None;
        };
        let (mut protocol, mut kind, mut query, mut rsalt) = (None, None, None, None);
        let mut rest = members;
        while let [Node::String(key), tail @ ..] = rest {
            let (value, children, tail) = split_value(tail)?;
            let twice = match (*key, value) {
                ("protocol", Node::Static(number)) => {
                    is_number(*number).then(|| protocol.replace(()).is_some())?
                }
                ("type", value) => kind.replace(request_type(value)?).is_some(),
                ("rsalt", Node::String(text)) => rsalt.replace(text.as_bytes()).is_some(),
                ("query", value) => query.replace(read_query(value, children)?).is_some(),
                _ => return None,
            };
            if twice {
                return None;
            }
            rest = tail;
        }
        protocol?;
        Some(Self {
            kind: kind?,
            query: query.unwrap_or(Query::Empty),
            rsalt: rsalt?,
        })
    }
}

fn read_query<'a>(value: &'a Node<'a>, children: &'a [Node<'a>]) -> Option<Query<'a>> {
    match value {
        Node::Static(StaticNode::Null) => Some(Query::Empty),
        Node::String(text) => Some(Query::Plain(text)),
        Node::Object { .. } => DictQuery::from_members(children).map(Query::Dict),
        _ => None,
    }
}

fn request_type(value: &Node<'_>) -> Option<RequestType> {
    RequestType::from_number(whole_number(value)?.try_into().ok()?)
}

/// Whether `values` are valid fields: numbers, or exactly the strings `["0","1","2"]`.
///
/// Ganeti's `confd-client` checks a daemon with these strings. The reference does not answer them,
/// and the client gives up. Any other list with strings is invalid here too.
fn is_field_list(values: &[Node<'_>]) -> bool {
    const CONFD_CLIENT: [&str; 3] = ["0", "1", "2"];
    let is_number = |value: &Node<'_>| as_str(value).is_none() && field(value).is_some();
    values.iter().all(is_number) || values.iter().map(as_str).eq(CONFD_CLIENT.map(Some))
}

fn field(value: &Node<'_>) -> Option<ReqField> {
    let number = as_str(value).map_or_else(|| whole_number(value), |text| text.parse().ok());
    match number? {
        0 => Some(ReqField::Name),
        1 => Some(ReqField::Ip),
        2 => Some(ReqField::MNodePip),
        _ => None,
    }
}

/// Returns an integral number in any spelling: `4`, `4.0`, `40e-1`.
fn whole_number(value: &Node<'_>) -> Option<i64> {
    match *value {
        Node::Static(StaticNode::I64(value)) => Some(value),
        Node::Static(StaticNode::U64(value)) => i64::try_from(value).ok(),
        Node::Static(StaticNode::F64(value)) => {
            (value.fract() == 0.0 && value.abs() < 1e15).then_some(value as i64)
        }
        _ => None,
    }
}

fn is_number(value: StaticNode) -> bool {
    matches!(
        value,
        StaticNode::I64(_) | StaticNode::U64(_) | StaticNode::F64(_)
    )
}

fn as_str<'a>(value: &Node<'a>) -> Option<&'a str> {
    match value {
        Node::String(text) => Some(text),
        _ => None,
    }
}

/// Splits `nodes` into the first value, the nodes inside it, and the nodes after it.
fn split_value<'t, 'a>(
    nodes: &'t [Node<'a>],
) -> Option<(&'t Node<'a>, &'t [Node<'a>], &'t [Node<'a>])> {
    let (value, rest) = nodes.split_first()?;
    let count = match value {
        Node::Object { count, .. } | Node::Array { count, .. } => *count,
        _ => 0,
    };
    let (children, after) = rest.split_at_checked(count)?;
    Some((value, children, after))
}
