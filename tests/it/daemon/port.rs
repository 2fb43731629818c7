//! Where the port comes from: the option, the services database, or the default.

use super::*;
use crate::common::namespace::{IP, namespaces_available};

/// Runs `binary` where `services` is the services database and every port is free.
fn with_services(root: &Root, services: &str, binary: &str, args: &[&str]) -> Command {
    fs::write(root.path("services"), services).unwrap();
    let setup = "ip link set lo up && mount --bind \"$0\" /etc/services && exec \"$@\"";
    let mut command = root.command("unshare", &["--net", "--mount", "--propagation=private"]);
    command.args(["sh", "-c", setup]);
    command.arg(root.path("services")).arg(binary).args(args);
    command
}

/// Whether this machine can run [`with_services`].
fn namespaces() -> bool {
    // Who can have a network namespace can have a mount namespace, too.
    namespaces_available(&[IP])
}

#[test]
fn the_log_has_the_port_s_origin_and_warns_about_clients_that_ask_another() {
    if !namespaces() {
        return;
    }
    let warning = "WARNING Port 1999 is from ganeti-confd/udp in /etc/services; Ganeti's Haskell \
                   clients (such as mon-collector) ask port 1814 and get no answer";
    for (services, option, port, part) in [
        ("ganeti-confd 1999/udp\n", None, 1999, warning),
        (
            "ganeti-confd 1814/udp\n",
            None,
            1814,
            "INFO Port 1814 is from ganeti-confd/udp in /etc/services",
        ),
        (
            "ganeti-confd 1999/tcp\n",
            None,
            1814,
            "INFO Port 1814 is the default, /etc/services has no ganeti-confd/udp",
        ),
        (
            "ganeti-confd 1999/udp\n",
            Some("--port=1998"),
            1998,
            "INFO Port 1998 is from --port",
        ),
    ] {
        let root = Root::new();
        let mut args = vec!["-f", "--no-user-checks", "-b", "127.0.0.1"];
        args.extend(option);
        let mut daemon = Daemon::spawn(with_services(&root, services, BINARY, &args));
        let line = daemon.wait_for(" Port ");
        assert!(line.contains(part), "{services:?} {option:?}: {line}");
        assert_eq!(daemon.wait_until_serving().port(), port);
        assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
    }
}

#[test]
fn an_unusable_services_database_is_a_warning() {
    if !namespaces() {
        return;
    }
    let root = Root::new();
    let setup = "ip link set lo up && mount --bind /dev/zero /etc/services && exec \"$0\" \"$@\"";
    let mut command = root.command("unshare", &["--net", "--mount", "--propagation=private"]);
    command.args(["sh", "-c", setup, BINARY]);
    command.args(["-f", "--no-user-checks", "-b", "127.0.0.1"]);
    let mut daemon = Daemon::spawn(command);
    daemon.wait_for(
        "WARNING Port 1814 is the default, /etc/services cannot be used: it is not a regular file; \
         repair the file, or use --port",
    );
    assert_eq!(daemon.wait_until_serving().port(), 1814);
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
}

/// Difference 11: the reference ignores the services database, against its manual page.
#[test]
fn the_reference_ignores_the_services_database() {
    if !namespaces() || !available("the reference daemon", REFERENCE) {
        return;
    }
    let root = Root::new();
    let args = ["-f", "--no-user-checks", "-b", "127.0.0.1"];
    let command = with_services(&root, "ganeti-confd 1999/udp\n", REFERENCE, &args);
    let mut daemon = Daemon::spawn(command);
    daemon.wait_for("Starting up in");
    let sockets = format!("/proc/{}/net/udp", daemon.pid());
    let bound_to = |port: u16| {
        let table = fs::read_to_string(&sockets).unwrap_or_default();
        table.contains(&format!("0100007F:{port:04X} "))
    };
    wait_until(|| bound_to(1814));
    assert!(!bound_to(1999));
    daemon.stop(Signal::SIGTERM);
}
