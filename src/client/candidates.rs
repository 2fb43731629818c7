//! The candidates that a client asks.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::candidate::{Candidate, distinct};
use super::error::Error;
use crate::node_files::{self, NodeFiles};
use crate::protocol::Key;

/// Reads the key and the candidates from the files of this node.
pub(super) fn of_this_node() -> Result<(Key, Vec<Candidate>), Error> {
    let files = NodeFiles::from_env();
    let port = node_files::port();
    let ips = files.read_candidates()?.into_iter();
    let candidates = ips.map(|ip| Candidate::at(ip, port)).collect();
    Ok((files.read_key()?, candidates))
}

/// The candidates that a client asks now, and those that it was made with.
#[derive(Debug)]
pub(super) struct Candidates {
    /// Never empty.
    first: Vec<Candidate>,
    /// Never empty.
    current: Mutex<Vec<Candidate>>,
}

impl Candidates {
    /// Takes the candidates that a client is made with.
    ///
    /// # Errors
    ///
    /// [`Error::NoCandidates`], and the error of a conversion.
    pub(super) fn new<C>(candidates: impl IntoIterator<Item = C>) -> Result<Self, Error>
    where
        C: TryInto<Candidate, Error: Into<Error>>,
    {
        let candidates = candidates.into_iter().map(TryInto::try_into);
        let candidates: Vec<Candidate> =
            candidates.collect::<Result<_, _>>().map_err(Into::into)?;
        let first = distinct(candidates);
        if first.is_empty() {
            return Err(Error::NoCandidates);
        }
        Ok(Self {
            current: Mutex::new(first.clone()),
            first,
        })
    }

    /// The current list.
    pub(super) fn list(&self) -> Vec<Candidate> {
        self.lock().clone()
    }

    /// Replaces the list by these addresses, at the port in use. Returns the new list.
    ///
    /// # Errors
    ///
    /// [`Error::NoCandidates`]; the list is unchanged then.
    pub(super) fn replace(&self, ips: &[IpAddr]) -> Result<Vec<Candidate>, Error> {
        let mut current = self.lock();
        let mut addresses = current.iter().flat_map(Candidate::addresses);
        let port = addresses
            .next()
            .map_or_else(node_files::port, |address| address.port());
        let candidates = distinct(ips.iter().map(|ip| Candidate::at(*ip, port)));
        if candidates.is_empty() {
            return Err(Error::NoCandidates);
        }
        current.clone_from(&candidates);
        Ok(candidates)
    }

    /// Goes back to the list that the client was made with. Returns whether that is a change.
    pub(super) fn restore_first(&self) -> bool {
        let mut current = self.lock();
        let is_change = *current != self.first;
        current.clone_from(&self.first);
        is_change
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Candidate>> {
        // The list is replaced as a whole, so that a panic leaves it intact.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
