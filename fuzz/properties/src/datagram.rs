//! Any bytes as a datagram, through the whole responder: answered if the reference parser says so,
//! or dropped for the same reason. Every reply is bounded, signed, and bound to its request.

use std::cell::RefCell;

use ganeti_confd::protocol::{PADDING, REPLY_BYTES_MAX, Reject};
use ganeti_confd::responder::{Datagram, Responder, Served};

use crate::reference_parser;
use crate::sample::{self, KEY, NOW};

/// A responder, with the buffers that a worker has.
#[derive(Debug)]
pub struct Worker {
    responder: Responder,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            responder: Responder::new(),
            buffer: Vec::new(),
            out: vec![0; REPLY_BYTES_MAX],
        }
    }
}

impl Worker {
    /// Answers `datagram` from `served` at `now`.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    pub fn respond(&mut self, datagram: &[u8], now: u64, served: &Served) -> Result<&[u8], Reject> {
        self.buffer.clear();
        self.buffer.extend_from_slice(datagram);
        // Bytes of an earlier datagram in the buffer.
        self.buffer.extend([b'"'; PADDING]);
        let datagram = Datagram::new(&mut self.buffer, datagram.len());
        let reply = self
            .responder
            .respond(datagram, now, served, &mut self.out)?;
        Ok(&self.out[..reply.len])
    }
}

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::default();
}

/// Answers `bytes` and compares the outcome with the reference parser's.
pub fn check(bytes: &[u8]) {
    let expected = reference_parser::judge(bytes, NOW, KEY);
    WORKER.with_borrow_mut(|worker| {
        match (worker.respond(bytes, NOW, sample::served()), expected) {
            (Ok(reply), Ok(request)) => {
                reference_parser::assert_reply(reply, &request.rsalt, KEY);
            }
            (Err(reason), Err(expected)) => {
                assert_eq!(reason, expected, "{}", bytes.escape_ascii());
            }
            (ours, expected) => {
                let ours = ours.map(<[u8]>::escape_ascii);
                panic!("{ours:?} instead of {expected:?}: {}", bytes.escape_ascii());
            }
        }
    });
}
