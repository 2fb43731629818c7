//! All calls of one client: requests signed, datagrams accepted or refused.
//!
//! An `rsalt` is `NONCE.CALL.CANDIDATE.ATTEMPT`: 128 random bits of this client, then which request it was. So a reply finds its
//! request at once, its round trip is that of the request that it answers, and no reply to one candidate serves as another's.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use super::call::Call;
use super::question::RawQuestion;
use super::{Candidate, Error, Outcome, RejectedReply, Settings, reply};
use crate::protocol::{Key, REQUEST_BYTES_MAX, envelope};

/// All calls of one client.
#[derive(Debug)]
pub(super) struct Calls {
    key: Key,
    nonce: String,
    random: fastrand::Rng,
    started: u64,
    under_way: HashMap<Id, (RawQuestion, Call)>,
}

/// 128 random bits in hexadecimal, for the `rsalt`s of one client.
pub(super) fn nonce() -> io::Result<String> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(nonce)))
}

/// Names a call of this client.
pub(super) type Id = u64;

impl Calls {
    /// No calls yet.
    ///
    /// # Errors
    ///
    /// The kernel gives no random bytes.
    pub(super) fn new(key: Key) -> io::Result<Self> {
        Ok(Self {
            key,
            nonce: nonce()?,
            random: fastrand::Rng::new(),
            started: 0,
            under_way: HashMap::new(),
        })
    }

    /// The key that signs.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Begins a call; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Error::NoCandidates`], and [`Error::RequestTooLarge`].
    pub(super) fn start(
        &mut self,
        asked: RawQuestion,
        candidates: &[Candidate],
        settings: Settings,
        now: Instant,
    ) -> Result<Id, Error> {
        if candidates.is_empty() {
            return Err(Error::NoCandidates);
        }
        let id = self.started;
        // No later request of this call is longer.
        self.request(id, &asked, usize::MAX, usize::MAX, u64::MAX)
            .filter(|datagram| datagram.len() <= REQUEST_BYTES_MAX)
            .ok_or(Error::RequestTooLarge)?;
        let mut chosen = candidates.to_vec();
        self.random.shuffle(&mut chosen);
        chosen.truncate(settings.coverage.of(candidates.len()));
        self.started += 1;
        self.under_way
            .insert(id, (asked, Call::new(chosen, settings, now)));
        Ok(id)
    }

    /// A signed request, if it fits a datagram; `clock` is in seconds since the epoch.
    fn request(
        &self,
        id: Id,
        asked: &RawQuestion,
        candidate: usize,
        attempt: usize,
        clock: u64,
    ) -> Option<Vec<u8>> {
        let rsalt = format!("{}.{id}.{candidate}.{attempt}", self.nonce);
        envelope::signed(&self.key, &clock.to_string(), &asked.message(&rsalt))
    }

    /// Sends what is due of a call; what cannot be sent counts as unreachable.
    pub(super) fn transmit(
        &mut self,
        id: Id,
        now: Instant,
        clock: u64,
        mut send: impl FnMut(&[u8], SocketAddr) -> io::Result<()>,
    ) {
        while let Some((_, call)) = self.under_way.get_mut(&id)
            && let Some(due) = call.due(now)
        {
            let (asked, _) = &self.under_way[&id];
            let datagram = self
                .request(id, asked, due.candidate, due.attempt, clock)
                .expect("start looked at its length");
            if let Err(error) = send(&datagram, due.to) {
                self.unreachable(due.to, &error);
            }
        }
    }

    /// Word that what was sent to an address does not arrive there.
    pub(super) fn unreachable(&mut self, to: SocketAddr, why: &io::Error) {
        let why = why.to_string();
        for (_, call) in self.under_way.values_mut() {
            call.unreachable(to, &why);
        }
    }

    /// Takes a datagram; gives the call that it belongs to.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub(super) fn receive(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
    ) -> Result<Id, RejectedReply> {
        let (rsalt, reply) = reply::open(&self.key, datagram)?;
        let (id, candidate, attempt) = self.find(&rsalt).ok_or(RejectedReply::Unsolicited)?;
        let (_, call) = self
            .under_way
            .get_mut(&id)
            .ok_or(RejectedReply::Unsolicited)?;
        call.answered(candidate, attempt, from, reply, now)?;
        Ok(id)
    }

    /// Which request has this `rsalt`.
    fn find(&self, rsalt: &str) -> Option<(Id, usize, usize)> {
        let mut parts = rsalt.strip_prefix(self.nonce.as_str())?.split('.').skip(1);
        let (id, candidate, attempt) = (parts.next()?, parts.next()?, parts.next()?);
        Some((
            id.parse().ok()?,
            candidate.parse().ok()?,
            attempt.parse().ok()?,
        ))
    }

    /// When to look at a call again if nothing comes.
    pub(super) fn wake(&self, id: Id) -> Option<Instant> {
        self.under_way.get(&id).map(|(_, call)| call.wake())
    }

    /// What came of a call, if it is over; it is forgotten then.
    pub(super) fn finish(&mut self, id: Id, now: Instant) -> Option<Outcome> {
        let (_, call) = self.under_way.get(&id)?;
        if !call.is_over(now) {
            return None;
        }
        let (_, call) = self.under_way.remove(&id)?;
        Some(call.into_outcome(now))
    }

    /// Forgets a call that nobody waits for any more.
    #[cfg(feature = "async")]
    pub(super) fn cancel(&mut self, id: Id) {
        self.under_way.remove(&id);
    }
}
