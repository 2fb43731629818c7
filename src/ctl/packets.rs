//! `--verbose`: one line on standard error for every datagram.
//!
//! ```text
//! +0.00 ms > 192.0.2.1:1814, 142 bytes: plj0{"hmac": ...
//! +0.41 ms < 192.0.2.1:1814, 170 bytes: plj0{"hmac": ...
//! ```

use std::io::{self, Write as _};
use std::time::Instant;

use super::format::{milliseconds, reason};
use crate::client::{Observer, Packet};
use crate::printable::printable;

/// Prints the datagrams, with the time since this call, if `is_on`.
pub(super) fn observer(is_on: bool) -> Observer {
    if !is_on {
        return Observer::default();
    }
    let start = Instant::now();
    Observer::new(move |packet| {
        let time = milliseconds(start.elapsed());
        // A closed standard error does not change what the command does.
        let _ = writeln!(io::stderr(), "+{time} {}", describe(packet));
    })
}

/// A datagram in one line, without control characters.
fn describe(packet: &Packet<'_>) -> String {
    let text = |bytes: &[u8]| printable(&String::from_utf8_lossy(bytes));
    match packet {
        Packet::Sent(result, datagram, to) => {
            let failed = match result {
                Ok(()) => String::new(),
                Err(error) => format!(" NOT SENT ({})", reason(&error.to_string())),
            };
            let len = datagram.len();
            format!("> {to}, {len} bytes{failed}: {}", text(datagram))
        }
        Packet::Received(result, datagram, from) => {
            let ignored = match result {
                Ok(()) => String::new(),
                Err(why) => format!(" IGNORED ({why})"),
            };
            let len = datagram.len();
            format!("< {from}, {len} bytes{ignored}: {}", text(datagram))
        }
        Packet::Undelivered(error, to) => {
            format!("! {to}: {}", reason(&error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::RejectedReply;

    #[test]
    fn packets_are_one_line_without_control_characters() {
        let address = ([192, 0, 2, 1], 1814).into();
        let sent = Packet::Sent(Ok(()), b"plj0{\"\x1b\n\"}", address);
        assert_eq!(
            describe(&sent),
            r#"> 192.0.2.1:1814, 10 bytes: plj0{"\u{1b}\n"}"#
        );
        let ignored = Err(RejectedReply::BadHmac);
        assert_eq!(
            describe(&Packet::Received(ignored, b"\xff", address)),
            "< 192.0.2.1:1814, 1 bytes IGNORED (not signed with the cluster's key): \u{fffd}"
        );
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(
            describe(&Packet::Undelivered(&refused, address)),
            "! 192.0.2.1:1814: connection refused, no daemon listens there"
        );
    }
}
