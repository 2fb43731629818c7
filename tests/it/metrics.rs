//! Metrics over HTTP: the formats, the equations that the counters satisfy, clients that misbehave,
//! and a real Prometheus that scrapes the daemon and evaluates the alert rules of
//! `packaging/prometheus`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::common::{Client, skip};
use super::daemon::{Daemon, Root};

const TIMEOUT: Duration = Duration::from_secs(60);

/// A daemon with an endpoint for metrics.
struct Server {
    daemon: Daemon,
    metrics: SocketAddr,
    address: SocketAddr,
    root: Root,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let root = Root::new();
        let args = [&["--metrics=127.0.0.1:0"], args].concat();
        let daemon = root.start(&args);
        let line = |part: &str| {
            let line = daemon.seen.iter().find(|line| line.contains(part));
            line.expect("it is logged").clone()
        };
        let url = line("Metrics at http://");
        let metrics = url.split("http://").nth(1).expect("a URL");
        let metrics = metrics.trim_end_matches("/metrics");
        let serving = line("Serving 127.");
        let address = serving.split("Serving ").nth(1).expect("an address");
        let address = address.split("/udp").next().expect("an address");
        Self {
            metrics: metrics.parse().expect("an address"),
            address: address.parse().expect("an address"),
            daemon,
            root,
        }
    }

    /// Sends an HTTP request; returns the head and the body of the response.
    fn http(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.metrics).expect("it listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a socket");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("it answers");
        let (head, body) = response.split_once("\r\n\r\n").expect("a response");
        (head.to_lowercase(), body.to_owned())
    }

    fn scrape(&self, accept: &str) -> (String, String) {
        self.http(&format!(
            "GET /metrics HTTP/1.1\r\nHost: confd\r\nAccept: {accept}\r\n\r\n"
        ))
    }

    /// The samples in the classic format, by name with labels.
    fn samples(&self) -> BTreeMap<String, f64> {
        let (_, body) = self.scrape("text/plain");
        let samples = body.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("name and value");
            (name.to_owned(), value.parse().expect("a number"))
        });
        samples.collect()
    }
}

/// The sum of all samples whose name starts with this.
fn sum(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    let family = samples.iter().filter(|(sample, _)| {
        let rest = sample.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
    });
    family.map(|(_, value)| value).sum()
}

/// The path of a program of the Debian package `prometheus`; `None` if it is missing.
fn program(name: &str) -> Option<&str> {
    let found = Command::new(name)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if found.is_err() {
        skip(&format!("{name} (Debian package prometheus)"));
        return None;
    }
    Some(name)
}

#[test]
fn the_counters_add_up_for_every_mix_of_datagrams() {
    for engine in ["uring", "mmsg"] {
        if engine == "uring" && io_uring::IoUring::new(2).is_err() {
            skip("io_uring (refused by this kernel)");
            continue;
        }
        let server = Server::start(&["--workers=2", "--engine", engine]);
        let before = server.samples();
        let key = fs::read(server.root.key()).expect("a key");
        let client = Client::connect(server.address, &key);
        for _ in 0..20 {
            assert!(client.answers_within(TIMEOUT));
        }
        let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for datagram in [&b"what?"[..], b"plj0{}", b""] {
            for _ in 0..5 {
                stranger
                    .send_to(datagram, server.address)
                    .expect("loopback");
            }
        }
        let wrong = Client::connect(server.address, b"another key");
        assert!(!wrong.answers_within(Duration::from_millis(50)));

        let deadline = Instant::now() + TIMEOUT;
        loop {
            let now = server.samples();
            let grown = |name: &str| {
                let name = format!("ganeti_confd_{name}");
                sum(&now, &name) - sum(&before, &name)
            };
            let written = grown("written_total");
            assert!(grown("received_total") >= written + grown("dropped_total"));
            if grown("dropped_total") >= 16.0 && grown("replied_total") == written {
                assert!(written >= 20.0);
                assert_eq!(grown("received_total"), written + grown("dropped_total"));
                assert_eq!(grown("requests_total"), written);
                assert_eq!(grown("batch_datagrams_sum"), grown("received_total"));
                assert_eq!(grown("batch_datagrams_count"), grown("batches_total"));
                assert_eq!(now["ganeti_confd_dropped_total{reason=\"bad_hmac\"}"], 1.0);
                assert!(now["ganeti_confd_service_seconds_count"] > 0.0);
                assert!(now["ganeti_confd_service_seconds_sum"] > 0.0);
                assert_eq!(grown("errors_total"), 0.0);
                break;
            }
            assert!(Instant::now() < deadline, "{now:#?}");
        }
    }
}

#[test]
fn both_text_formats_are_served_by_accept_and_promtool_takes_them() {
    let server = Server::start(&[]);
    let (head, open) = server.scrape("application/openmetrics-text;version=1.0.0");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(open.ends_with("# EOF\n"), "{open}");
    assert!(open.contains("# TYPE ganeti_confd_received counter\n"));
    let (head, classic) = server.scrape("text/plain");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(classic.contains("# TYPE ganeti_confd_received_total counter\n"));

    let (head, _) = server.http("GET / HTTP/1.1\r\nHost: confd\r\n\r\n");
    assert!(head.starts_with("http/1.1 404 "), "{head}");
    let (head, _) = server.http("POST /metrics HTTP/1.1\r\nHost: confd\r\n\r\n");
    assert!(head.starts_with("http/1.1 405 "), "{head}");

    let Some(promtool) = program("promtool") else {
        return;
    };
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    let mut stdin = check.stdin.take().expect("a pipe");
    stdin.write_all(classic.as_bytes()).expect("it reads");
    drop(stdin);
    let output = check.wait_with_output().expect("it ends");
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaints}");
    assert_eq!(complaints, "");
}

#[test]
fn clients_that_send_nothing_or_too_much_do_not_keep_others_out() {
    let mut server = Server::start(&[]);
    // More than the daemon admits at the same time.
    let idle: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(server.metrics).expect("it listens"))
        .collect();
    let client = Client::connect(server.address, &fs::read(server.root.key()).expect("a key"));
    assert!(client.answers_within(TIMEOUT));
    assert!(
        server
            .scrape("text/plain")
            .1
            .contains("ganeti_confd_workers")
    );
    drop(idle);

    let mut endless = TcpStream::connect(server.metrics).expect("it listens");
    endless.set_write_timeout(Some(TIMEOUT)).expect("a socket");
    let mut sent = 0;
    // Until the daemon closes the connection.
    while let Ok(count) = endless.write(&[b'a'; 1_024]) {
        sent += count;
        assert!(sent < 64 << 20, "a request has no limit");
    }
    assert_eq!(server.daemon.stop(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn an_address_that_cannot_be_bound_is_an_error_with_a_remedy() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = other.local_addr().expect("an address").to_string();
    let root = Root::new();
    let args = [
        "-f",
        "--no-user-checks",
        "-b",
        "127.0.0.1",
        "-p",
        "0",
        "--metrics",
    ];
    let output = root.run(&[&args[..], &[&address]].concat());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        text.contains(&format!(
            "cannot serve metrics at {address}: Address already in use"
        )),
        "{text}"
    );
    assert!(text.contains("--metrics"), "{text}");
}

/// A Prometheus, killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _data: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Starts one that scrapes `target` every second.
    fn start(program: &str, target: SocketAddr, rules: &Path) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n\
             - job_name: ganeti-confd\n\
             \x20 static_configs: [{{targets: ['{target}']}}]\n",
            rules.display()
        );
        let file = data.path().join("prometheus.yml");
        fs::write(&file, config).expect("a fresh directory is writable");
        let child = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                data.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus runs");
        Self {
            child,
            address,
            _data: data,
        }
    }

    /// The result of a GET; `Null` while it does not answer.
    fn get(&self, path: &str) -> Value {
        let get = || {
            let mut stream = TcpStream::connect(self.address)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            // HTTP/1.0: no chunks.
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
            let mut response = String::new();
            stream.read_to_string(&mut response)?;
            std::io::Result::Ok(response)
        };
        let response = get().unwrap_or_default();
        let body = response.split_once("\r\n\r\n").map(|(_, body)| body);
        body.and_then(|body| serde_json::from_str(body).ok())
            .unwrap_or_default()
    }

    /// Waits until `found` returns something for the result of `path`.
    fn wait<T>(&self, path: &str, found: impl Fn(&Value) -> Option<T>) -> T {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let result = self.get(path);
            if let Some(found) = found(&result) {
                return found;
            }
            assert!(Instant::now() < deadline, "{path}: {result:#}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn prometheus_scrapes_the_daemon_and_raises_an_alert_when_the_file_is_bad() {
    let Some(program) = program("prometheus") else {
        return;
    };
    let rules =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus/ganeti-confd.rules.yml");
    let server = Server::start(&[]);
    let prometheus = Prometheus::start(program, server.metrics, &rules);
    let serial = prometheus.wait("/api/v1/query?query=ganeti_confd_config_serial", |result| {
        let value = result["data"]["result"][0]["value"][1].as_str()?;
        value.parse::<f64>().ok()
    });
    assert!(serial > 0.0);
    let kind = prometheus.wait("/api/v1/metadata?metric=ganeti_confd_received", |result| {
        Some(
            result["data"]["ganeti_confd_received"][0]["type"]
                .as_str()?
                .to_owned(),
        )
    });
    assert_eq!(kind, "counter", "it scrapes OpenMetrics");
    let alerts = prometheus.wait("/api/v1/rules", |result| {
        let rules = result["data"]["groups"][0]["rules"].as_array()?;
        let evaluated = rules.iter().all(|rule| rule["health"] == "ok");
        (evaluated && !rules.is_empty()).then_some(rules.len())
    });
    assert!(alerts >= 6, "{alerts} rules");

    // The alert waits for a minute until it fires.
    fs::write(server.root.config(), "{").expect("it is writable");
    let state = prometheus.wait("/api/v1/alerts", |result| {
        let alerts = result["data"]["alerts"].as_array()?;
        let refused = alerts
            .iter()
            .find(|alert| alert["labels"]["alertname"] == "GanetiConfdConfigRefused");
        Some(refused?["state"].as_str()?.to_owned())
    });
    assert!(["pending", "firing"].contains(&state.as_str()), "{state}");
}

#[test]
fn the_alert_rules_pass_their_tests() {
    let Some(promtool) = program("promtool") else {
        return;
    };
    let output = Command::new(promtool)
        .args(["test", "rules", "ganeti-confd.rules.test.yml"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus"))
        .output()
        .expect("promtool runs");
    let text = [&output.stdout[..], &output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&text)
    );
}

/// The names of metrics in a text.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("ganeti_confd_"))
}

#[test]
fn rules_dashboard_and_documentation_name_metrics_that_exist() {
    let server = Server::start(&[]);
    let (_, classic) = server.scrape("text/plain");
    let samples: Vec<_> = names(&classic).collect();
    for page in [
        "packaging/prometheus/ganeti-confd.rules.yml",
        "packaging/prometheus/ganeti-confd.rules.test.yml",
        "packaging/grafana/ganeti-confd.json",
        "docs/operations.md",
    ] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page));
        for name in names(&text.expect("it is readable")) {
            assert!(samples.contains(&name), "{page}: {name}");
        }
    }
}

/// What Grafana needs of a dashboard: the schema's fields, unique panels that do not overlap, and a
/// data source and a query for each.
#[test]
fn the_dashboard_has_the_structure_that_grafana_reads() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/grafana/ganeti-confd.json");
    let text = fs::read_to_string(file).expect("it is readable");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    assert!(
        dashboard["schemaVersion"]
            .as_u64()
            .is_some_and(|version| version >= 36)
    );
    assert!(dashboard["uid"].as_str().is_some_and(|uid| uid.len() <= 40));
    let variables = dashboard["templating"]["list"]
        .as_array()
        .expect("variables");
    let variables: Vec<_> = variables
        .iter()
        .filter_map(|v| v["name"].as_str())
        .collect();
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = std::collections::BTreeSet::new();
    let mut places = std::collections::BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64()), "{panel:#}");
        let at = |name: &str| panel["gridPos"][name].as_u64().expect("a position");
        assert!(at("x") + at("w") <= 24, "{panel:#}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(places.insert((x, y)), "two panels at {x}, {y}: {panel:#}");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
        let targets = panel["targets"].as_array().expect("queries");
        assert!(!targets.is_empty());
        for target in targets {
            let query = target["expr"].as_str().expect("a query");
            for variable in query.split('$').skip(1) {
                let name = variable
                    .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .next();
                let name = name.expect("a name");
                assert!(
                    name.starts_with("__") || variables.contains(&name),
                    "{query}"
                );
            }
        }
    }
    assert!(panels.len() > 10);
}
