//! Loading takes time and memory linear in the length of the file, whatever is in it.
//!
//! Each shape is a kind of file that grows in one respect. The file is loaded at three lengths,
//! each twice the one before. If the cost is linear, the second difference of costs is twice the
//! first; if it is quadratic, four times. Bytes are those that are allocated at the same time, and
//! instructions are counted by callgrind, so that the speed of the machine does not matter.
//!
//! A test binary of its own, because counting replaces the allocator.

use std::fmt::Write;
use std::fs;
use std::hint::black_box;
use std::process::Command;

use ganeti_confd::snapshot::Snapshot;

/// Bytes of the shortest file of each shape.
const BYTES_MIN: usize = 6_000;

/// The most by which the second difference of costs may exceed the first: 2 for a linear cost, some
/// more for sorting and for tables that double, 4 for a quadratic cost.
const RATIO_MAX: f64 = 2.9;

/// Bytes of memory that a load may take at most for each byte of the file. A tape of numbers of one
/// digit takes the most.
const MEMORY_RATIO_MAX: u64 = 60;

/// Bytes of memory beyond that: digits that large exponents may add to a short file.
const MEMORY_BYTES_MIN: u64 = 4 << 20;

type Shape = fn(usize) -> String;

/// All shapes: a name, and a function from an approximate length to a file.
const ALL: [(&str, Shape); 32] = [
    ("nodes", |len| {
        file(Parts {
            nodes: list(len, |i| {
                node(&format!("n{i}"), &format!("node{i}.example.com"))
            }),
            ..Parts::default()
        })
    }),
    ("nodes with one uuid", |len| {
        file(Parts {
            nodes: list(len, |i| {
                named(&format!("n{i}"), &node_object("u", &format!("node{i}")))
            }),
            ..Parts::default()
        })
    }),
    ("instances", |len| {
        file(Parts {
            instances: list(len, |i| {
                instance(
                    &format!("i{i}"),
                    &format!("web{i}.example.com"),
                    "n",
                    "",
                    "",
                )
            }),
            ..Parts::default()
        })
    }),
    ("instances of one name", |len| {
        file(Parts {
            instances: list(len, |i| instance(&format!("i{i}"), "web", "n", "", "")),
            ..Parts::default()
        })
    }),
    ("instances that share a list of disks", |len| {
        let count = len / 300;
        let disks = vec!["\"d\""; 8 * count].join(",");
        let mut instances = instance("x", "x", "n", "", &disks);
        for i in 0..count {
            write!(
                instances,
                ",{}",
                named(
                    &format!("i{i}"),
                    &instance_object("x", &format!("w{i}"), "n", "", "")
                )
            )
            .expect("a String");
        }
        file(Parts {
            instances,
            disks: drbd("d", "n", "m", ""),
            ..Parts::default()
        })
    }),
    ("a missing disk with a long key, shared", |len| {
        let key = "k".repeat(len / 2);
        let mut instances = instance("x", "x", "n", "", &format!("\"{key}\""));
        for i in 0..len / 400 {
            write!(
                instances,
                ",{}",
                named(
                    &format!("i{i}"),
                    &instance_object("x", &format!("w{i}"), "n", "", "")
                )
            )
            .expect("a String");
        }
        file(Parts {
            instances,
            ..Parts::default()
        })
    }),
    ("one disk listed again and again", |len| {
        let disks = vec!["\"d\""; len / 8].join(",");
        let children = list(len / 2, |i| {
            format!("{{\"dev_type\":\"drbd\",\"logical_id\":[\"n\",\"m\",1,{i},{i},\"s\"]}}")
        });
        file(Parts {
            instances: instance("i", "i", "n", "", &disks),
            disks: drbd("d", "n", "m", &children),
            ..Parts::default()
        })
    }),
    ("a long node name with many minors", |len| {
        let mut nodes = node("n", &"a".repeat(len / 2));
        write!(nodes, ",{}", node("m", "m")).expect("a String");
        let disks = list(len / 4, |i| drbd(&format!("d{i}"), "n", "m", ""));
        let names = list(len / 4, |i| format!("\"d{i}\""))
            .split(',')
            .take(len / 400)
            .collect::<Vec<_>>()
            .join(",");
        file(Parts {
            nodes,
            instances: instance("i", "i", "n", "", &names),
            disks,
            ..Parts::default()
        })
    }),
    ("a long instance name with many disks", |len| {
        let disks = list(len / 2, |i| drbd(&format!("d{i}"), "n", "m", ""));
        let names: Vec<_> = (0..disks.matches("\":{").count())
            .map(|i| format!("\"d{i}\""))
            .collect();
        file(Parts {
            instances: instance("i", &"a".repeat(len / 3), "n", "", &names.join(",")),
            disks,
            ..Parts::default()
        })
    }),
    ("a long primary node with many disks", |len| {
        let long = "n".repeat(len / 4);
        let disks = vec!["\"d\""; len / 16].join(",");
        file(Parts {
            instances: instance("i", "i", &long, "", &disks),
            disks: drbd("d", &long, "m", ""),
            ..Parts::default()
        })
    }),
    ("a long peer that is not found", |len| {
        let long = "p".repeat(len / 3);
        let children = list(len / 3, |i| {
            format!("{{\"dev_type\":\"drbd\",\"logical_id\":[\"n\",\"q{i}\",1,2,3,\"s\"]}}")
        });
        file(Parts {
            instances: instance("i", "i", "n", "", "\"d\",\"d\",\"d\""),
            disks: drbd("d", "n", &long, &children),
            ..Parts::default()
        })
    }),
    ("addresses on a long default link", |len| {
        let nics = list(len / 2, |i| {
            format!("{{\"ip\":\"10.{}.{}.{}\"}}", i >> 16, i >> 8 & 255, i & 255)
        });
        file(Parts {
            link: "l".repeat(len / 2),
            instances: instance("i", "i", "n", &nics, ""),
            ..Parts::default()
        })
    }),
    (
        "addresses of instances of one name with a long node",
        |len| {
            let mut instances = instance("i", "i", &"n".repeat(len / 2), "{\"ip\":\"1\"}", "");
            let more = list(len / 2, |i| {
                instance(&format!("j{i}"), "i", "n", "{\"ip\":\"2\"}", "")
            });
            write!(instances, ",{more}").expect("a String");
            file(Parts {
                instances,
                ..Parts::default()
            })
        },
    ),
    ("equal addresses", |len| {
        let nics = list(len, |_| {
            "{\"ip\":\"192.0.2.1\",\"nicparams\":{\"link\":\"b\"}}".to_owned()
        });
        file(Parts {
            instances: instance("i", "i", "n", &nics, ""),
            ..Parts::default()
        })
    }),
    ("a name of dots", |len| {
        file(Parts {
            nodes: node("n", &".".repeat(len)),
            ..Parts::default()
        })
    }),
    ("names that start alike", |len| {
        let prefix = "a.".repeat(100);
        file(Parts {
            nodes: list(len, |i| {
                node(&format!("n{i}"), &format!("{prefix}{}", len - i))
            }),
            ..Parts::default()
        })
    }),
    ("keys in descending order that start alike", |len| {
        let prefix = "k".repeat(100);
        file(Parts {
            top: format!(
                ",\"x\":{{{}}}",
                list(len, |i| format!("\"{prefix}{:06}\":0", len - i))
            ),
            ..Parts::default()
        })
    }),
    ("fractions in one object", |len| {
        any(&list(len, |i| format!("{i}.5")))
    }),
    ("fractions with many digits", |len| {
        any(&list(len, |i| format!("0.1{}{i}", "2468".repeat(12))))
    }),
    ("one number of many digits", |len| any(&"7".repeat(len))),
    ("one fraction of many digits", |len| {
        any(&format!("0.{}", "7".repeat(len)))
    }),
    ("a rounded integer of many digits", |len| {
        collector(&format!("{}.5", "9".repeat(len)))
    }),
    ("large exponents", |len| {
        any(&list(len, |_| "1e308".to_owned()))
    }),
    ("exponents beyond doubles", |len| {
        any(&list(len, |_| "1e999999".to_owned()))
    }),
    ("small integers", |len| {
        any(&list(len, |i| (i % 10).to_string()))
    }),
    ("unknown keys", |len| {
        file(Parts {
            cluster: format!(",{}", list(len, |i| format!("\"k{i}\":0"))),
            ..Parts::default()
        })
    }),
    ("sets of tags", |len| {
        file(Parts {
            cluster: format!(",\"tags\":[{}]", list(len, |i| format!("\"t{}\"", len - i))),
            ..Parts::default()
        })
    }),
    ("surrogates and escapes", |len| {
        any(&format!(
            "\"{}\"",
            "\\ud800\\u0001\\\"\\ud83d\\ude00".repeat(len / 28)
        ))
    }),
    ("nested arrays", |len| {
        any(&list(len, |_| "[".repeat(100) + &"]".repeat(100)))
    }),
    ("nested disks", |len| {
        let depth = (len / 250).min(80);
        let mut disk = String::new();
        for _ in 0..depth {
            disk = format!(
                "{{\"dev_type\":\"drbd\",\"logical_id\":[\"n\",\"m\",1,2,3,\"s\"],\"children\":[{disk}]}}"
            );
        }
        let count = len / disk.len().max(1);
        file(Parts {
            disks: list(len.min(count * disk.len()), |i| {
                named(&format!("d{i}"), &disk)
            }),
            instances: instance("i", "i", "n", "", "\"d0\""),
            ..Parts::default()
        })
    }),
    ("filters that do not match the tables", |len| {
        let rules = list(len, |i| {
            format!(
                "\"f{i}\":{{\"predicates\":[[\"jobid\",[\"&\",[\"?\",\"x\"],[\"no\"]]]],\"action\":{i}}}"
            )
        });
        file(Parts {
            top: format!(",\"filters\":{{{rules}}}"),
            ..Parts::default()
        })
    }),
    ("a syntax error at the end", |len| {
        let mut text = any(&list(len, |i| format!("\"{i}\"")));
        text.truncate(text.len() - 1);
        text + ",x"
    }),
];

/// The parts of a file that shapes fill in.
#[derive(Default)]
struct Parts {
    link: String,
    cluster: String,
    nodes: String,
    instances: String,
    disks: String,
    top: String,
}

fn file(parts: Parts) -> String {
    let Parts {
        link,
        cluster,
        nodes,
        instances,
        disks,
        top,
    } = parts;
    let nodes = if nodes.is_empty() {
        [node("n", "node1"), node("m", "node2")].join(",")
    } else {
        nodes
    };
    format!(
        "{{\"version\":3000000,\"cluster\":{{\"master_node\":\"n\",\"master_ip\":\"192.0.2.1\",\
         \"enabled_hypervisors\":[],\"nicparams\":{{\"default\":{{\"link\":\"{link}\"}}}},\
         \"serial_no\":1{cluster}}},\"nodes\":{{{nodes}}},\"instances\":{{{instances}}},\
         \"disks\":{{{disks}}}{top}}}"
    )
}

/// A file with a free-form list of `values`.
fn any(values: &str) -> String {
    file(Parts {
        top: format!(",\"x\":[{values}]"),
        ..Parts::default()
    })
}

fn collector(interval: &str) -> String {
    let collectors =
        format!(",\"data_collectors\":{{\"lv\":{{\"active\":true,\"interval\":{interval}}}}}");
    file(Parts {
        cluster: collectors,
        ..Parts::default()
    })
}

/// Items with commas between them, up to `len` bytes.
fn list(len: usize, item: impl Fn(usize) -> String) -> String {
    let mut text = item(0);
    for index in 1.. {
        if text.len() >= len {
            break;
        }
        text.push(',');
        text += &item(index);
    }
    text
}

fn named(key: &str, object: &str) -> String {
    format!("\"{key}\":{object}")
}

fn node_object(uuid: &str, name: &str) -> String {
    format!(
        "{{\"name\":\"{name}\",\"primary_ip\":\"192.0.2.1\",\"master_candidate\":true,\
         \"offline\":false,\"drained\":false,\"uuid\":\"{uuid}\",\"serial_no\":1}}"
    )
}

fn node(uuid: &str, name: &str) -> String {
    named(uuid, &node_object(uuid, name))
}

fn instance_object(uuid: &str, name: &str, primary: &str, nics: &str, disks: &str) -> String {
    format!(
        "{{\"name\":\"{name}\",\"primary_node\":\"{primary}\",\"nics\":[{nics}],\"disks\":[{disks}],\
         \"uuid\":\"{uuid}\",\"serial_no\":1}}"
    )
}

fn instance(uuid: &str, name: &str, primary: &str, nics: &str, disks: &str) -> String {
    named(uuid, &instance_object(uuid, name, primary, nics, disks))
}

fn drbd(key: &str, a: &str, b: &str, children: &str) -> String {
    let object = format!(
        "{{\"dev_type\":\"drbd\",\"logical_id\":[\"{a}\",\"{b}\",1,2,3,\"s\"],\"children\":[{children}]}}"
    );
    named(key, &object)
}

/// The files of a shape at the three lengths.
fn files(shape: Shape) -> [String; 3] {
    [1, 2, 4].map(|factor| shape(factor * BYTES_MIN))
}

/// How much the cost grows from the second to the third length, compared with that from the first
/// to the second; 2 if it is linear. Lengths are those of the files.
fn growth(files: &[String; 3], cost: [u64; 3]) -> f64 {
    let [a, b, c] = files.each_ref().map(|file| file.len() as f64);
    let [x, y, z] = cost.map(|cost| cost as f64);
    let per_byte = |from: f64, to: f64, bytes: f64| ((to - from) / bytes).max(0.1);
    2.0 * per_byte(y, z, c - b) / per_byte(x, y, b - a)
}

#[inline(never)]
fn load_counted(file: &[u8]) {
    let _ = black_box(Snapshot::load(black_box(file)));
}

#[test]
fn every_shape_loads() {
    for (name, shape) in ALL {
        for file in files(shape) {
            let loaded = Snapshot::load(file.as_bytes());
            let is_broken = name.starts_with("a syntax error");
            assert_eq!(loaded.is_err(), is_broken, "{name}: {:?}", loaded.err());
        }
    }
}

#[test]
fn memory_is_linear() {
    let mut failures = Vec::new();
    for (name, shape) in ALL {
        let files = files(shape);
        let bytes = files.each_ref().map(|file| {
            let counted = allocation_counter::measure(|| load_counted(file.as_bytes()));
            counted.bytes_max
        });
        let growth = growth(&files, bytes);
        println!("{name}: {bytes:?} bytes, growth {growth:.2}");
        let bytes_max = MEMORY_BYTES_MIN + MEMORY_RATIO_MAX * files[2].len() as u64;
        if growth > RATIO_MAX || bytes[2] > bytes_max {
            failures.push(name);
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn time_is_linear() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--toggle-collect=linear::load_counted",
            "--dump-after=linear::load_counted",
        ])
        .arg(format!(
            "--callgrind-out-file={}",
            directory.path().join("out").display()
        ))
        .arg(std::env::current_exe().expect("the test binary has a path"))
        .args([
            "--exact",
            "load_all_shapes",
            "--ignored",
            "--test-threads=1",
        ])
        .output();
    let Ok(output) = output else {
        println!("skipped: valgrind is not installed");
        return;
    };
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let count = |index: usize| -> u64 {
        let dump = directory.path().join(format!("out.{index}"));
        let text = fs::read_to_string(&dump).unwrap_or_else(|error| panic!("{dump:?}: {error}"));
        let total = text.lines().find_map(|line| line.strip_prefix("summary: "));
        let total = total
            .expect("a dump has a sum")
            .split(' ')
            .next()
            .expect("a number");
        total.parse().expect("a number")
    };
    let mut failures = Vec::new();
    for (at, (name, shape)) in ALL.into_iter().enumerate() {
        let files = files(shape);
        let instructions = [1, 2, 3].map(|index| count(3 * at + index));
        let growth = growth(&files, instructions);
        println!("{name}: {instructions:?} instructions, growth {growth:.2}");
        if growth > RATIO_MAX {
            failures.push(name);
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
#[ignore = "runs under callgrind, started by `time_is_linear`"]
fn load_all_shapes() {
    for (_, shape) in ALL {
        for file in files(shape) {
            load_counted(file.as_bytes());
        }
    }
}
