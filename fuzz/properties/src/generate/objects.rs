//! Configurations from field tables: every kind of object, and every optional field present, absent
//! and null.

use super::json::Json;
use super::tables::{
    COLLECTOR, COLLECTORS, CONFIG, DISK, Field, HYPERVISORS, NEEDED, Pool, REAL_DISK_TEMPLATES,
    Type, UNNEEDED,
};
use super::values::{self, pick};
use fastrand::Rng;

/// One fault in one record of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A field of the wrong type that a query needs; both daemons reject it.
    WrongType,
    /// A required field that a query needs is null; both daemons reject it.
    Null,
    /// A field of the wrong type that no query needs; this daemon serves it as it is.
    UnreadType,
    /// A required field that no query needs is null; this daemon serves it as it is.
    UnreadNull,
    /// An unknown word in an enumeration; this daemon serves it as it is.
    WrongWord,
    /// A missing required field that a query needs; both daemons reject it.
    Needed,
    /// A missing required field that no query needs; this daemon serves the rest.
    Unneeded,
    /// An unknown key; this daemon serves it.
    Unknown,
    /// A duplicate key; this daemon rejects it.
    Twice,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 9] = [
        Self::WrongType,
        Self::Null,
        Self::UnreadType,
        Self::UnreadNull,
        Self::WrongWord,
        Self::Needed,
        Self::Unneeded,
        Self::Unknown,
        Self::Twice,
    ];

    /// Whether this daemon serves the file.
    pub const fn is_served(self) -> bool {
        match self {
            Self::UnreadType
            | Self::UnreadNull
            | Self::WrongWord
            | Self::Unneeded
            | Self::Unknown => true,
            Self::WrongType | Self::Null | Self::Needed | Self::Twice => false,
        }
    }

    /// Whether the fault can occur in `field`.
    fn fits(self, field: &Field) -> bool {
        let has_wrong_type = matches!(
            field.kind,
            Type::Text
                | Type::Bool
                | Type::Int
                | Type::From(_)
                | Type::Record(_)
                | Type::List(_)
                | Type::Map(_)
        );
        match self {
            Self::WrongType | Self::Null => has_wrong_type && NEEDED.contains(&field.name),
            Self::UnreadType | Self::UnreadNull => has_wrong_type && UNNEEDED.contains(&field.name),
            Self::WrongWord => matches!(field.kind, Type::OneOf(_)),
            Self::Needed => NEEDED.contains(&field.name),
            Self::Unneeded => UNNEEDED.contains(&field.name),
            Self::Unknown | Self::Twice => true,
        }
    }

    /// The key and value of [`Fault::Unknown`].
    pub const UNKNOWN: (&'static str, &'static str) = ("zz_unknown", "12345");
}

/// A fault and its place: the number of fitting records to skip, and the choice among fitting
/// fields.
struct Trap {
    fault: Fault,
    records_left: usize,
    choice: usize,
}

/// A generator of configurations. A seed determines the configuration; a fault changes only its
/// place.
pub struct Generator {
    rng: Rng,
    trap: Option<Trap>,
}

impl Generator {
    /// The generator of one configuration.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            trap: None,
        }
    }

    /// A configuration that the reference loads.
    pub fn config(&mut self) -> Json {
        self.record(CONFIG, false, 2)
    }

    /// The configuration of `seed` with one fault in the record with index `at` among those that
    /// fit; `None` if there are fewer.
    pub fn faulty(seed: u64, fault: Fault, at: usize) -> Option<Json> {
        let mut generator = Self {
            trap: Some(Trap {
                fault,
                records_left: at,
                choice: seed as usize,
            }),
            ..Self::new(seed)
        };
        let config = generator.config();
        generator.trap.is_none().then_some(config)
    }

    fn record(&mut self, fields: &'static [Field], forthcoming: bool, depth: u8) -> Json {
        let mut members = Vec::new();
        for field in fields {
            let required = field.is_required(forthcoming);
            if !required && self.rng.bool() {
                continue;
            }
            if matches!(field.kind, Type::LogicalId) {
                self.disk_id(&mut members);
                continue;
            }
            let null = !required && self.rng.u8(..5) == 0;
            let value = if null {
                Json::Null
            } else {
                self.value(&field.kind, depth)
            };
            members.push((field.name.to_owned(), value));
        }
        self.rng.shuffle(&mut members);
        self.spoil(fields, forthcoming, &mut members);
        Json::Object(members)
    }

    /// Inserts the fault if this record is its place. Makes no random choice, so that the rest does
    /// not change.
    fn spoil(&mut self, fields: &[Field], forthcoming: bool, members: &mut Vec<(String, Json)>) {
        let Some(Trap {
            fault,
            records_left,
            choice,
        }) = &mut self.trap
        else {
            return;
        };
        let fits: Vec<_> = fields
            .iter()
            .filter(|field| field.is_required(forthcoming) && fault.fits(field))
            .collect();
        let place = fits
            .get(*choice % fits.len().max(1))
            .and_then(|field| members.iter().position(|(name, _)| name == field.name));
        let Some(at) = place else { return };
        if *records_left > 0 {
            *records_left -= 1;
            return;
        }
        match fault {
            Fault::WrongType | Fault::UnreadType => members[at].1 = wrong_type(&members[at].1),
            Fault::Null | Fault::UnreadNull => members[at].1 = Json::Null,
            Fault::WrongWord => members[at].1 = Json::text("no-such-word"),
            Fault::Needed | Fault::Unneeded => drop(members.remove(at)),
            Fault::Unknown => members.insert(
                at,
                (Fault::UNKNOWN.0.to_owned(), Json::number(Fault::UNKNOWN.1)),
            ),
            Fault::Twice => members.push(members[at].clone()),
        }
        self.trap = None;
    }

    fn value(&mut self, kind: &Type, depth: u8) -> Json {
        if let Some(value) = scalar(&mut self.rng, kind) {
            return value;
        }
        match kind {
            Type::List(kind) => self.list(kind, depth),
            Type::Pair(kind) => Json::List((0..2).map(|_| self.value(kind, depth)).collect()),
            Type::Map(kind) => {
                let keys = values::map(&mut self.rng, 3, |_| Json::Null);
                self.fill(keys, kind, depth)
            }
            Type::Hypervisors(kind) => self.some_of(HYPERVISORS, HYPERVISORS.len(), kind, depth),
            Type::Collectors => self.some_of(
                COLLECTORS,
                COLLECTORS.len(),
                &Type::Record(COLLECTOR),
                depth,
            ),
            Type::Defaults(kind) => self.defaults(kind, depth),
            Type::Record(fields) => self.record(fields, false, depth),
            Type::Promised(fields) => self.promised(fields, depth),
            Type::Child => self.promised(DISK, depth),
            Type::Objects(pool, size_max, kind) => {
                self.some_of(pool.texts(), *size_max, kind, depth)
            }
            _ => unreachable!("`scalar` and `disk_id` write all other kinds"),
        }
    }

    fn list(&mut self, kind: &Type, depth: u8) -> Json {
        // Limits the depth of child disks.
        let size_max = if depth == 0 && matches!(kind, Type::Child) {
            0
        } else {
            3
        };
        let size = self.rng.usize(..=size_max);
        Json::List(
            (0..size)
                .map(|_| self.value(kind, depth.saturating_sub(1)))
                .collect(),
        )
    }

    /// A map that usually has the key `default`.
    fn defaults(&mut self, kind: &Type, depth: u8) -> Json {
        let names = if self.rng.u8(..8) == 0 {
            &["other"][..]
        } else {
            &["default", "other"]
        };
        let Json::Object(mut members) = self.some_of(names, 2, kind, depth) else {
            unreachable!("some_of makes objects")
        };
        if names.len() > 1 && !members.iter().any(|(name, _)| name == "default") {
            members.push(("default".into(), self.value(kind, depth)));
        }
        Json::Object(members)
    }

    /// An object of up to `size_max` members with keys from `names`.
    fn some_of(&mut self, names: &[&str], size_max: usize, kind: &Type, depth: u8) -> Json {
        let mut names = names.to_vec();
        self.rng.shuffle(&mut names);
        names.truncate(self.rng.usize(..=size_max));
        let keys = names
            .into_iter()
            .map(|name| (name.to_owned(), Json::Null))
            .collect();
        self.fill(Json::Object(keys), kind, depth)
    }

    fn fill(&mut self, keys: Json, kind: &Type, depth: u8) -> Json {
        let Json::Object(mut members) = keys else {
            unreachable!("only objects have keys")
        };
        for (_, value) in &mut members {
            *value = self.value(kind, depth);
        }
        Json::Object(members)
    }

    /// A record that may be forthcoming. Only `"forthcoming": true` makes it so; any other value
    /// does not.
    fn promised(&mut self, fields: &'static [Field], depth: u8) -> Json {
        let forthcoming = self.rng.u8(..4) == 0;
        let Json::Object(mut members) = self.record(fields, forthcoming, depth) else {
            unreachable!("records are objects")
        };
        let flag = match self.rng.u8(..12) {
            _ if forthcoming => Some(Json::Bool(true)),
            0 => Some(Json::Bool(false)),
            1 => Some(Json::Null),
            2 => Some(Json::number(1)),
            3 => Some(Json::text("yes")),
            _ => None,
        };
        if let Some(flag) = flag {
            let at = self.rng.usize(..=members.len());
            members.insert(at, ("forthcoming".into(), flag));
        }
        Json::Object(members)
    }

    /// Writes `dev_type` and a `logical_id` that fits it.
    fn disk_id(&mut self, members: &mut Vec<(String, Json)>) {
        let rng = &mut self.rng;
        let kind = pick(rng, REAL_DISK_TEMPLATES);
        // Half of all disks are DRBD, because two queries are about these.
        let kind = if rng.bool() { "drbd" } else { kind };
        let mut pair =
            |driver: &[&str]| vec![Json::text(pick(rng, driver)), Json::Text(values::text(rng))];
        let id = match kind {
            "file" | "sharedfile" | "gluster" => pair(&["loop", "blktap", "blktap2"]),
            "blockdev" => pair(&["manual"]),
            "drbd" => vec![
                self.value(&Type::From(Pool::Nodes), 0),
                self.value(&Type::From(Pool::Nodes), 0),
                self.value(&Type::Int, 0),
                self.value(&Type::Int, 0),
                self.value(&Type::Int, 0),
                self.value(&Type::Text, 0),
            ],
            _ => pair(&["xenvg", "pool/1", ""]),
        };
        members.push(("dev_type".into(), Json::text(kind)));
        members.push(("logical_id".into(), Json::List(id)));
    }
}

/// A value that holds no other object; `None` for a kind that does.
fn scalar(rng: &mut Rng, kind: &Type) -> Option<Json> {
    Some(match kind {
        Type::Text => Json::Text(values::text(rng)),
        Type::NonEmpty => Json::Text(format!("n{}", values::text(rng))),
        Type::Bool => Json::Bool(rng.bool()),
        Type::Int => values::int(rng),
        Type::Natural => Json::number(pick(rng, &["0", "7", "-0.5", "2.5", "1e3", "7.0"])),
        Type::Integer => Json::number(pick(
            rng,
            &["5000000", "5000000.0", "2.5", "-3.5", "0", "1e7", "1e30"],
        )),
        Type::Double => values::double(rng),
        Type::Time => values::time(rng),
        Type::Tags => Json::List(
            (0..rng.usize(..5))
                .map(|_| Json::Text(values::text(rng)))
                .collect(),
        ),
        Type::Size if rng.bool() => values::int(rng),
        Type::Size => Json::text(pick(
            rng,
            &[
                "128", "512m", "1 GiB", "5gb", "0x10", "-5", " 7", "(12)M", "2TiB", "0o17", "3  t",
                "1G", "9 mib",
            ],
        )),
        Type::Bits => Json::Text(
            (0..rng.usize(..20))
                .map(|_| if rng.bool() { '1' } else { '0' })
                .collect(),
        ),
        Type::Address => Json::text(address(rng)),
        Type::Network => {
            let mask = pick(rng, &["24", "0", "32", "08", "0x10", "280", " 8"]);
            Json::text(format!("{}/{mask}", address(rng)))
        }
        Type::JobId if rng.bool() => Json::number(pick(rng, &["7", "7.0", "0", "1e3", "70e-1"])),
        Type::JobId => Json::text(pick(rng, &["7", " 7", "0x7", "00"])),
        Type::Action if rng.bool() => {
            let number = pick(rng, &["1", "5.0", "20"]);
            Json::List(vec![Json::text("RATE_LIMIT"), Json::number(number)])
        }
        Type::Action => Json::text(pick(rng, &["ACCEPT", "PAUSE", "REJECT", "CONTINUE"])),
        Type::Predicate => {
            let name = pick(rng, &["jobid", "opcode", "reason"]);
            Json::List(vec![Json::text(name), expression(rng, 3)])
        }
        Type::Reason => Json::List(vec![
            Json::Text(values::text(rng)),
            Json::Text(values::text(rng)),
            Json::number(pick(rng, &["0", "1.5", "2.5", "1400000000000000000", "-1"])),
        ]),
        Type::Any => values::any(rng, 3),
        Type::OneOf(words) => Json::text(pick(rng, words)),
        Type::Family => Json::number(pick(rng, &["2", "10", "2.0", "1e1"])),
        Type::From(pool) => Json::text(pick(rng, pool.texts())),
        _ => return None,
    })
}

fn address(rng: &mut Rng) -> &'static str {
    rng.choice(&[
        "192.0.2.0",
        "10.0.0.255",
        "1.2.3.300",
        "01.02.03.04",
        "-1.2.3.4",
        "0x10.0.0.1",
        " 1.2.3.4",
        "(1).2.3.4",
    ])
    .expect("not empty")
}

/// A filter expression with any operator, nested up to `depth`.
fn expression(rng: &mut Rng, depth: u8) -> Json {
    let field = || Json::text("status");
    let leaf_only = depth == 0;
    let items = match rng.u8(if leaf_only { 4..13 } else { 0..13 }) {
        0 => return Json::Null,
        1 | 2 => {
            let mut items = vec![Json::text(if rng.bool() { "&" } else { "|" })];
            items.extend((0..rng.usize(..4)).map(|_| expression(rng, depth - 1)));
            items
        }
        3 => vec![Json::text("!"), expression(rng, depth - 1)],
        4 => vec![Json::text("?"), field()],
        5 => vec![
            Json::text("=~"),
            field(),
            Json::text(pick(rng, &["^a", "a|b", "[0-9]+\\.", "", "(x)(y)?"])),
        ],
        _ => {
            let operator = pick(rng, &["==", "=", "!=", "<", ">", "<=", ">=", "=[]"]);
            let value = if rng.bool() {
                Json::Text(values::text(rng))
            } else {
                Json::number(pick(
                    rng,
                    &["1", "1.0", "-3", "0", "1e3", "12345678901234567890"],
                ))
            };
            vec![Json::text(operator), field(), value]
        }
    };
    Json::List(items)
}

/// A value of a type that a field with `value` does not accept.
fn wrong_type(value: &Json) -> Json {
    match value {
        Json::Number(_) => Json::text("12"),
        Json::Bool(_) => Json::number(1),
        _ => Json::Bool(true),
    }
}
