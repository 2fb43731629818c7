//! Requests about one configuration: all types and all forms of queries, valid and invalid.

use crate::common::{Tag, now, sign_hex};
use fastrand::Rng;
use properties::generate::values::{self, pick};
use properties::generate::{Json, Style};

/// A request.
pub(super) struct Asked {
    pub(super) tag: Tag,
    pub(super) datagram: Vec<u8>,
    /// The inner message.
    pub(super) message: Json,
    /// The request's type, if it is well-formed.
    pub(super) type_number: Option<i64>,
}

/// A generator of requests with the names, addresses and paths of a configuration.
pub(super) struct Requests<'a> {
    rng: Rng,
    key: &'a [u8],
    words: Vec<String>,
    paths: Vec<String>,
    next_tag: Tag,
    /// Whether some requests are malformed, badly signed or stale.
    spoiled: bool,
}

impl<'a> Requests<'a> {
    pub(super) fn new(seed: u64, key: &'a [u8], config: &Json) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            key,
            words: words_of(config),
            paths: paths_of(config),
            next_tag: 0,
            spoiled: true,
        }
    }

    /// Restricts it to requests that are answered.
    pub(super) fn well_formed(self) -> Self {
        Self {
            spoiled: false,
            ..self
        }
    }

    /// A request; usually well-formed.
    pub(super) fn any(&mut self) -> Asked {
        let type_number = self.rng.i64(0..12);
        let query = self.query(type_number);
        self.request(type_number, query)
    }

    /// A request of type 10 for the path number `index`; all paths together cover every value.
    pub(super) fn path(&mut self, index: usize) -> Asked {
        let path = self.paths[index % self.paths.len()].clone();
        self.request(10, Some(Json::Text(path)))
    }

    pub(super) fn paths(&self) -> usize {
        self.paths.len()
    }

    fn request(&mut self, type_number: i64, query: Option<Json>) -> Asked {
        self.next_tag += 1;
        let tag = self.next_tag;
        let odd = values::text(&mut self.rng);
        let mut members = vec![
            ("protocol".to_owned(), self.protocol()),
            (
                "type".to_owned(),
                values::spelled(&mut self.rng, type_number),
            ),
            ("rsalt".to_owned(), Json::Text(format!("q{tag}.{odd}"))),
        ];
        members.extend(query.map(|query| ("query".to_owned(), query)));
        let malformed = self.spoiled && self.rng.u8(..25) == 0;
        if malformed {
            self.spoil(&mut members);
        }
        self.rng.shuffle(&mut members);
        let message = Json::Object(members);
        let style = Style {
            utf8: false,
            ..Style::any(&mut self.rng)
        };
        let text = message.write(&mut self.rng, style);
        Asked {
            tag,
            datagram: self.envelope(&text),
            message,
            type_number: (!malformed).then_some(type_number),
        }
    }

    fn protocol(&mut self) -> Json {
        Json::number(pick(
            &mut self.rng,
            &["1", "1", "1", "0", "2", "-1", "1.4", "1e30", "1.0"],
        ))
    }

    /// Makes the request invalid, or unusual but valid.
    fn spoil(&mut self, members: &mut Vec<(String, Json)>) {
        match self.rng.u8(..7) {
            0 => drop(members.remove(self.rng.usize(..3))),
            1 => members.push(("extra".into(), Json::Null)),
            2 => {
                members[1].1 = Json::number(pick(
                    &mut self.rng,
                    &["12", "-1", "99", "1e5", "4294967296"],
                ));
            }
            3 => members[1].1 = unless_number(values::any(&mut self.rng, 0)),
            4 => members[0].1 = unless_number(values::any(&mut self.rng, 1)),
            5 => members[2].1 = Json::Null,
            _ => {
                members.retain(|(name, _)| name != "query");
                members.push(("query".into(), self.invalid_query()));
            }
        }
    }

    /// A query that no type accepts.
    fn invalid_query(&mut self) -> Json {
        match self.rng.u8(..7) {
            0 => Json::Bool(true),
            1 => Json::number(1),
            2 => Json::List(vec![]),
            3 => Json::object([("4", Json::number(1))]),
            4 => Json::object([("fields", Json::List(vec![]))]),
            5 => Json::object([("1", Json::number(1))]),
            _ => Json::object([("3", Json::List(vec![Json::text("name")]))]),
        }
    }

    fn query(&mut self, type_number: i64) -> Option<Json> {
        match self.rng.u8(..10) {
            0 => None,
            1 => Some(Json::Null),
            2 => Some(self.dictionary()),
            3 => Some(Json::Text(self.word())),
            _ => match type_number {
                2 | 3 => Some(self.dictionary()),
                10 => Some(Json::Text(self.path_text())),
                _ => Some(Json::Text(self.word())),
            },
        }
    }

    fn dictionary(&mut self) -> Json {
        let mut members = Vec::new();
        if self.rng.bool() {
            members.push(("0", Json::Text(self.word())));
        }
        if self.rng.u8(..3) == 0 {
            members.push(("1", Json::Text(self.word())));
        }
        if self.rng.bool() {
            let ips = (0..self.rng.usize(..5))
                .map(|_| Json::Text(self.word()))
                .collect();
            members.push(("2", Json::List(ips)));
        }
        if self.rng.bool() {
            let fields = (0..self.rng.usize(..4)).map(|_| self.field()).collect();
            members.push(("3", Json::List(fields)));
        }
        self.rng.shuffle(&mut members);
        let mut members: Vec<_> = members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        for (_, value) in &mut members {
            if self.rng.u8(..15) == 0 {
                *value = Json::Null;
            }
        }
        Json::Object(members)
    }

    fn field(&mut self) -> Json {
        let field = if self.spoiled && self.rng.u8(..40) == 0 {
            self.rng.i64(-2..5)
        } else {
            self.rng.i64(0..3)
        };
        values::spelled(&mut self.rng, field)
    }

    /// A name, key or address of the configuration: complete, truncated or changed.
    fn word(&mut self) -> String {
        let Some(word) = self.rng.choice(&self.words).cloned() else {
            return values::text(&mut self.rng);
        };
        let dots: Vec<usize> = word.match_indices('.').map(|(at, _)| at).collect();
        match self.rng.u8(..12) {
            0 => values::text(&mut self.rng),
            1 => word + ".",
            2 => word.to_uppercase(),
            3 => word.chars().take(self.rng.usize(..8)).collect(),
            4..=6 => self
                .rng
                .choice(&dots)
                .map_or(word.clone(), |&dot| word[..dot].to_owned()),
            _ => word,
        }
    }

    /// A path of the configuration: complete, truncated, extended or changed.
    fn path_text(&mut self) -> String {
        let path = self
            .rng
            .choice(&self.paths)
            .expect("a configuration has paths")
            .clone();
        match self.rng.u8(..14) {
            0 => path + "/",
            1 => path + "//",
            2 => path + "~",
            3 => path + "~2/x",
            4 => path + "/0x",
            5 => path + "/-1",
            6 => {
                path + pick(
                    &mut self.rng,
                    &[
                        "/18446744073709551617",
                        "/9223372036854775808",
                        "/00",
                        "/1~1",
                        "/0/0",
                    ],
                )
            }
            7 => path.replacen('/', "//", 2),
            8 => path.trim_start_matches('/').to_owned(),
            9 => path + "/" + &values::text(&mut self.rng),
            10 => path.chars().take(self.rng.usize(..20)).collect(),
            _ => path,
        }
    }

    fn envelope(&mut self, message: &str) -> Vec<u8> {
        let rng = &mut self.rng;
        let wrong = self.spoiled && rng.u8(..60) == 0;
        let salt = if wrong && rng.bool() {
            now() - 1000
        } else {
            now()
        }
        .to_string();
        let mut hmac = sign_hex(self.key, format!("{salt}{message}").as_bytes());
        match rng.u8(..10) {
            0 => hmac.make_ascii_uppercase(),
            1 if wrong => hmac.replace_range(7..8, if &hmac[7..8] == "0" { "1" } else { "0" }),
            _ => {}
        }
        let mut members = vec![
            ("msg".to_owned(), Json::text(message)),
            ("salt".to_owned(), Json::Text(salt)),
            ("hmac".to_owned(), Json::Text(hmac)),
        ];
        if wrong && rng.u8(..4) == 0 {
            members.push(("fourcc".into(), Json::text("plj0")));
        }
        rng.shuffle(&mut members);
        let style = Style {
            utf8: false,
            ..Style::any(rng)
        };
        let text = Json::Object(members).write(rng, style);
        let end = if wrong && rng.u8(..4) == 0 {
            text.len() - 1
        } else {
            text.len()
        };
        [b"plj0", &text.as_bytes()[..end]].concat()
    }
}

/// `json`, unless it is a number.
fn unless_number(json: Json) -> Json {
    match json {
        Json::Number(_) => Json::Null,
        // The reference reads an array of characters as a string.
        Json::List(_) => Json::Bool(false),
        other => other,
    }
}

/// Every short text of the configuration, including keys: this covers all names, links and
/// addresses.
fn words_of(config: &Json) -> Vec<String> {
    fn collect(json: &Json, words: &mut Vec<String>) {
        match json {
            Json::Text(text) if text.len() < 40 => words.push(text.clone()),
            Json::List(items) => items.iter().for_each(|item| collect(item, words)),
            Json::Object(members) => members.iter().for_each(|(_, value)| collect(value, words)),
            _ => {}
        }
    }
    let mut words = Vec::new();
    for section in ["nodes", "instances"] {
        if let Some(Json::Object(objects)) = config.member(section) {
            words.extend(objects.iter().map(|(key, _)| key.clone()));
            for (_, object) in objects {
                let names = ["name", "uuid", "primary_ip", "primary_node", "nics"];
                names
                    .iter()
                    .filter_map(|name| object.member(name))
                    .for_each(|value| collect(value, &mut words));
            }
        }
    }
    if let Some(nicparams) = config
        .member("cluster")
        .and_then(|cluster| cluster.member("nicparams"))
    {
        collect(nicparams, &mut words);
    }
    words
}

/// The paths of all values, and of defaults that the file may omit.
fn paths_of(config: &Json) -> Vec<String> {
    fn collect(json: &Json, path: &str, paths: &mut Vec<String>) {
        let mut step = |token: &str, value: &Json| {
            let path = format!("{path}/{}", token.replace('~', "~0").replace('/', "~1"));
            paths.push(path.clone());
            collect(value, &path, paths);
        };
        match json {
            Json::List(items) => items
                .iter()
                .enumerate()
                .for_each(|(at, item)| step(&at.to_string(), item)),
            Json::Object(members) => members.iter().for_each(|(key, value)| step(key, value)),
            _ => {}
        }
    }
    let mut paths = Vec::new();
    collect(config, "", &mut paths);
    for path in [
        "/ctime",
        "/mtime",
        "/cluster/ctime",
        "/cluster/tags",
        "/cluster/hv_state_static",
        "/nodes",
        "/instances",
        "/",
    ] {
        paths.push(path.to_owned());
    }
    paths
}
