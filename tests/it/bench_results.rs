//! Tests of what `confdctl bench` does with options from files and with results: profiles, output
//! formats, `merge` and `compare`.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::{Generator, Server, count, daemon, honest, parse, text, words};

/// Runs `confdctl bench` in the generator's directory without servers.
fn bench(generator: &Generator, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_confdctl"))
        .arg("bench")
        .args(arguments)
        .current_dir(generator.path())
        .output()
        .expect("it runs")
}

fn write(generator: &Generator, file: &str, text: impl AsRef<[u8]>) {
    fs::write(generator.path().join(file), text).expect("the directory is writable");
}

#[test]
fn options_come_from_a_profile_unless_the_command_line_replaces_them() {
    let daemon = daemon();
    let generator = Generator::new();
    let profile = "
        # A small closed loop.
        in-flight = 3
        requests = 40
        warm-up = \"0s\"
        mix = \"ping=1,master=1\"
        quiet = true
        segment = false
        lost-in-percentiles = true
    ";
    write(&generator, "small.toml", profile);
    let run = |more: &[&str]| {
        let arguments = [&["--profile", "small.toml"][..], more].concat();
        generator.json(&[daemon.address()], &arguments)
    };
    let results = run(&[]);
    assert_eq!(count(&results, "sent"), 40);
    let options = &results["options"];
    assert_eq!(options["in_flight"], 3);
    assert_eq!(options["mix"], "ping=1,master=1");
    assert_eq!(
        (&options["quiet"], &options["segment"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(options["lost_in_percentiles"], true);

    let results = run(&["--requests", "7", "--mix=ping"]);
    assert_eq!(count(&results, "sent"), 7);
    assert_eq!(results["options"]["in_flight"], 3);
    // A rate excludes --in-flight, so that of the file does not apply.
    let results = run(&["--rate", "400"]);
    assert_eq!(results["options"]["in_flight"], Value::Null);
    assert_eq!(results["offered_rate"], 400.0);
}

#[test]
fn a_wrong_profile_is_refused_by_name() {
    let generator = Generator::new();
    for (profile, why) in [
        ("rte = 5", "unknown option 'rte'"),
        ("profile = \"x\"", "unknown option 'profile'"),
        ("rate = \"fast\"", "a rate like 500"),
        ("rate = 5\nin-flight = 5", "cannot be used with"),
        ("rate = {}", "must be text"),
        ("quiet = 5", "must be text"),
        ("rate = ", "TOML"),
    ] {
        write(&generator, "wrong.toml", profile);
        let output = bench(&generator, &["--profile", "wrong.toml"]);
        assert_eq!(output.status.code(), Some(2), "{profile}: {output:?}");
        let text = text(&output);
        assert!(
            text.contains("wrong.toml") && text.contains(why),
            "{profile}: {text}"
        );
    }
    let output = bench(&generator, &["--profile", "missing.toml"]);
    assert!(text(&output).contains("missing.toml"), "{output:?}");
}

#[test]
fn results_are_printed_in_each_format() {
    let daemon = daemon();
    let generator = Generator::new();
    let run = |format: &'static str| {
        let arguments = words(
            "--in-flight 4 --requests 200 --warm-up 0s --mix ping,role --require loss=0,p50<1ns",
        );
        let output = generator.run(
            &[daemon.address()],
            &[&arguments[..], &["--format", format]].concat(),
        );
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let markdown = run("markdown");
    for line in [
        "| requests | 200 | ",
        "| latency, ms | p50 | ",
        "| ping | ",
        "| loss=0 | 0 | holds |",
    ] {
        assert!(markdown.contains(line), "{markdown}");
    }
    assert!(markdown.contains("**does not hold**"), "{markdown}");
    let gauges = run("openmetrics");
    assert!(gauges.contains("\nconfd_bench_requests 200\n"), "{gauges}");
    assert!(
        gauges.contains("\nconfd_bench_latency_seconds{quantile=\"0.99\"} 0."),
        "{gauges}"
    );
    assert!(gauges.ends_with("\n# EOF\n"), "{gauges}");
    let junit = run("junit");
    assert!(junit.contains("tests=\"3\" failures=\"1\""), "{junit}");
    assert!(
        junit.contains("name=\"p50&lt;0ms\"") || junit.contains("p50&lt;"),
        "{junit}"
    );
    let document: Value = serde_json::from_str(&run("json")).expect("JSON");
    assert_eq!(count(&document, "sent"), 200);
    let output = generator.run(&[daemon.address()], &["--json", "--format", "text"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn results_of_two_processes_are_added() {
    let daemons = [daemon(), daemon()];
    let generator = Generator::new();
    let addresses = [daemons[0].address(), daemons[1].address()];
    let arguments = words("--rate 300 --duration 1s --warm-up 0s --mix ping,master --json");
    let runs: Vec<_> = [&addresses[..1], &addresses[..]]
        .iter()
        .map(|servers| generator.start(servers, &arguments))
        .collect();
    for (index, run) in runs.into_iter().enumerate() {
        let output = run.wait_with_output().expect("our child");
        assert!(output.status.success(), "{output:?}");
        write(&generator, &format!("{index}.json"), output.stdout);
    }
    let output = bench(&generator, &["merge", "0.json", "1.json", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let sum = parse(&output);
    let one = |index: usize| -> Value {
        let text = fs::read(generator.path().join(format!("{index}.json"))).expect("written");
        serde_json::from_slice(&text).expect("JSON")
    };
    for name in ["sent", "answered", "lost", "stamped"] {
        let parts = count(&one(0), name) + count(&one(1), name);
        assert_eq!(count(&sum, name), parts, "{name}");
    }
    assert_eq!(sum["load"]["latency"]["count"], count(&sum, "sent"));
    assert_eq!(sum["offered_rate"], 600.0);
    assert_eq!(sum["targets"], json!(addresses));
    let of_first = |document: &Value| document["load"]["by_target"][0]["sent"].as_u64();
    let of_both = count(&one(0), "sent") + of_first(&one(1)).expect("a number");
    assert_eq!(of_first(&sum), Some(of_both));
    let longest = [0, 1].map(|index| one(index)["load"]["latency"]["max_ns"].as_u64());
    assert_eq!(
        sum["load"]["latency"]["max_ns"].as_u64(),
        longest.into_iter().max().flatten()
    );

    // The sum is a result itself.
    write(&generator, "sum.json", &output.stdout);
    let output = bench(&generator, &["merge", "sum.json", "0.json"]);
    let sent = count(&sum, "sent") + count(&one(0), "sent");
    let sent = format!("{sent} sent");
    assert!(text(&output).contains(&sent), "{output:?}");
    let output = bench(&generator, &["merge", "0.json", "hmac.key"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output).contains("hmac.key: not a document"),
        "{output:?}"
    );
    let output = bench(
        &generator,
        &["--server", "::1", "merge", "0.json", "0.json"],
    );
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_slower_server_is_worse_and_an_equal_one_is_not() {
    fn slow(number: usize, request: &crate::load::Request, outbox: &mut crate::load::Outbox) {
        std::thread::sleep(Duration::from_millis(20));
        honest(number, request, outbox);
    }
    let generator = Generator::new();
    for (file, behavior) in [
        ("a.json", honest as crate::load::Behavior),
        ("b.json", slow),
    ] {
        let mut server = Server::start("127.0.0.1:0", behavior);
        let arguments = words("--in-flight 2 --duration 2s --warm-up 0s --mix ping --json");
        let output = generator.run(&[server.address], &arguments);
        server.stop();
        assert!(output.status.success(), "{output:?}");
        write(&generator, file, output.stdout);
    }
    let compare = |arguments: &[&str]| bench(&generator, &[&["compare"], arguments].concat());
    let output = compare(&["a.json", "b.json", "--json"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let comparison = parse(&output);
    let figures = comparison["figures"].as_array().expect("a list");
    for name in ["answers/s", "p50, ms"] {
        let figure = figures.iter().find(|figure| figure["name"] == name);
        let figure = figure.expect("it is compared");
        assert_eq!(figure["worse"], true, "{figure}");
        assert!(figure["confidence"].as_f64() > Some(0.99), "{figure}");
    }
    // The other direction is better, and a result is not worse than itself.
    for files in [["b.json", "a.json"], ["a.json", "a.json"]] {
        let output = compare(&files);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(
            text(&output).contains("B is not worse than A."),
            "{output:?}"
        );
    }
    let output = compare(&["a.json", "b.json", "--format", "markdown"]);
    assert!(text(&output).contains("| worse |"), "{output:?}");
    // Everything is allowed.
    let output = compare(&["a.json", "b.json", "--confidence", "1"]);
    assert_ne!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(compare(&["a.json", "missing.json"]).status.code(), Some(1));
}

#[test]
fn a_server_on_this_machine_is_reported() {
    let daemon = daemon();
    let arguments = words("--in-flight 8 --requests 3000 --warm-up 0s --mix ping");
    let results = Generator::new().json(&[daemon.address()], &arguments);
    let server = &results["servers"][0];
    assert_eq!(server["target"], json!(daemon.address()));
    let pid = server["pid"].as_u64().expect("its files can be read");
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).expect("it runs");
    assert_eq!(name.trim(), "ganeti-confd");
    assert!(server["cpu_ns"].as_u64() > Some(1_000_000), "{server}");
    assert_eq!(server["dropped"], 0);
}
