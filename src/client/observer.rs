//! A function that sees every datagram of a client, for `confdctl --verbose`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::reply::RejectedReply;

/// What happened to a datagram.
#[derive(Debug)]
pub(crate) enum Packet<'a> {
    /// It was sent, or cannot be sent.
    Sent(Result<(), &'a io::Error>, &'a [u8], SocketAddr),
    /// It arrived, and is a reply or was ignored.
    Received(Result<(), RejectedReply>, &'a [u8], SocketAddr),
    /// An earlier one was not delivered to this address.
    Undelivered(&'a io::Error, SocketAddr),
}

/// Calls a function for every datagram, or does nothing.
#[derive(Clone, Default)]
pub(crate) struct Observer(Option<Arc<Observe>>);

type Observe = dyn Fn(&Packet<'_>) + Send + Sync;

impl Observer {
    /// Calls `observe` from whichever thread sends or receives.
    #[cfg(feature = "ctl")]
    pub(crate) fn new(observe: impl Fn(&Packet<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(observe)))
    }

    /// Reports a datagram.
    pub(crate) fn report(&self, packet: &Packet<'_>) {
        if let Some(observe) = &self.0 {
            observe(packet);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(&self.0.is_some()).finish()
    }
}
