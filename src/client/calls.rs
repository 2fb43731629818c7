//! All calls of one client, over the same sockets.
//!
//! Pure: it uses no socket and no clock. The tag of a call is `NONCE.CALL`: 128 random bits of this
//! client, then the call's number.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use super::call::{Call, choose, nonce};
use super::candidate::Candidate;
use super::error::Error;
use super::outcome::Outcome;
use super::question::Query;
use super::reply::{self, RejectedReply};
use super::settings::Settings;
use crate::protocol::Key;

/// All calls of one client.
#[derive(Debug)]
pub(super) struct Calls {
    key: Key,
    nonce: String,
    started: u64,
    calls: HashMap<Id, Call>,
}

/// The number of a call of this client.
pub(super) type Id = u64;

impl Calls {
    /// No calls yet.
    ///
    /// # Errors
    ///
    /// The kernel has no random bytes.
    pub(super) fn new(key: Key) -> io::Result<Self> {
        Ok(Self {
            key,
            nonce: nonce()?,
            started: 0,
            calls: HashMap::new(),
        })
    }

    /// The key that signs.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Starts a call; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Error::NoCandidates`] and [`Error::RequestTooLarge`].
    pub(super) fn start(
        &mut self,
        query: Query,
        candidates: &[Candidate],
        settings: Settings,
        now: Instant,
    ) -> Result<Id, Error> {
        let id = self.started;
        let tag = format!("{}.{id}", self.nonce);
        let candidates = choose(candidates.to_vec(), settings.coverage);
        let call = Call::with_tag(&self.key, query, candidates, settings, now, tag)?;
        self.started += 1;
        self.calls.insert(id, call);
        Ok(id)
    }

    /// Sends the requests of a call that are due. If one cannot be sent, its destination counts as
    /// unreachable.
    pub(super) fn transmit(
        &mut self,
        id: Id,
        now: Instant,
        clock: u64,
        mut send: impl FnMut(&[u8], SocketAddr) -> io::Result<()>,
    ) {
        while let Some(call) = self.calls.get_mut(&id)
            && let Some(request) = call.poll_transmit(now, clock)
        {
            if let Err(error) = send(&request.datagram, request.to) {
                self.unreachable(request.to, &error);
            }
        }
    }

    /// Records that a datagram to an address did not arrive.
    pub(super) fn unreachable(&mut self, to: SocketAddr, why: &io::Error) {
        let why = why.to_string();
        for call in self.calls.values_mut() {
            call.unreachable(to, &why);
        }
    }

    /// Takes a datagram; returns the call that it belongs to.
    ///
    /// # Errors
    ///
    /// The reason why it is not accepted.
    pub(super) fn receive(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
    ) -> Result<Id, RejectedReply> {
        let signed = reply::open(&self.key, datagram)?;
        let id = self.find(&signed.rsalt).ok_or(RejectedReply::Unsolicited)?;
        let call = self.calls.get_mut(&id).ok_or(RejectedReply::Unsolicited)?;
        call.accept(signed, from, now)?;
        Ok(id)
    }

    /// The call whose request has this `rsalt`.
    fn find(&self, rsalt: &str) -> Option<Id> {
        let rest = rsalt.strip_prefix(self.nonce.as_str())?.strip_prefix('.')?;
        rest.split('.').next()?.parse().ok()
    }

    /// The time at which to look at a call if nothing arrives.
    pub(super) fn next_wakeup(&self, id: Id) -> Option<Instant> {
        self.calls.get(&id).map(Call::next_wakeup)
    }

    /// Removes a call and returns its outcome, if it is over.
    pub(super) fn finish(&mut self, id: Id, now: Instant) -> Option<Outcome> {
        if !self.calls.get(&id)?.is_over(now) {
            return None;
        }
        let call = self.calls.remove(&id)?;
        Some(call.into_outcome(now))
    }

    /// Removes a call that is no longer waited for.
    pub(super) fn cancel(&mut self, id: Id) {
        self.calls.remove(&id);
    }

    /// The number of calls that are neither finished nor cancelled.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.calls.len()
    }
}
