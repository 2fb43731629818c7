//! What a worker calls for each datagram.
#![forbid(unsafe_code)]

use crate::protocol::Reject;
use crate::responder::{Datagram, ReplyInfo, Responder, Served};

/// Answers datagrams: the part of a worker that is not I/O.
pub trait Handler {
    /// Answers `datagram` from `served` and writes the reply to `out`, which holds
    /// [`REPLY_BYTES_MAX`](crate::protocol::REPLY_BYTES_MAX) bytes. `now` is in whole seconds since
    /// the epoch.
    ///
    /// # Errors
    ///
    /// The reason why the datagram gets no reply.
    fn handle(
        &mut self,
        datagram: Datagram<'_>,
        now: u64,
        served: &Served,
        out: &mut [u8],
    ) -> Result<ReplyInfo, Reject>;
}

impl Handler for Responder {
    fn handle(
        &mut self,
        datagram: Datagram<'_>,
        now: u64,
        served: &Served,
        out: &mut [u8],
    ) -> Result<ReplyInfo, Reject> {
        self.respond(datagram, now, served, out)
    }
}
