//! Files with deeper nesting than any configuration are refused and do not exhaust the stack.
//! `properties` covers files and datagrams with a few changed bytes.

use ganeti_confd::demo;
use ganeti_confd::snapshot::Snapshot;

/// A sample cluster with `nested` as its iallocator parameters.
fn with_parameter(nested: &str) -> String {
    let text = demo::configuration(1, 1, 1);
    let at = text
        .find("\"default_iallocator_params\":{")
        .expect("the field exists");
    let value = at + "\"default_iallocator_params\":{".len();
    format!("{}\"deep\":{nested}{}", &text[..value], &text[value..])
}

/// A disk with children to the given depth.
fn disk(depth: usize) -> String {
    let children = if depth == 0 {
        String::new()
    } else {
        disk(depth - 1)
    };
    format!(
        r#"{{"logical_id":["vg","lv"],"dev_type":"plain","children":[{children}],"size":1,"uuid":"u","serial_no":1}}"#
    )
}

#[test]
fn nesting_is_bounded() {
    let load = |text: &str| {
        Snapshot::load(text.as_bytes())
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let brackets = |depth| with_parameter(&("[".repeat(depth) + &"]".repeat(depth)));
    assert_eq!(load(&brackets(250)), Ok(()));
    assert!(load(&brackets(300)).is_err_and(|error| error.contains("nested more than 256 levels")));
    assert!(load(&brackets(1_000_000)).is_err());
    let disks = |depth| {
        demo::configuration(1, 0, 1).replacen(
            "\"disks\":{",
            &format!("\"disks\":{{\"d\":{}", disk(depth)),
            1,
        )
    };
    assert_eq!(load(&disks(120)), Ok(()));
    assert!(load(&disks(200)).is_err());
}
