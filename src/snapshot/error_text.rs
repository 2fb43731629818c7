//! Error texts of the reference for names that are not found. Clients pass them on as opaque text.
//!
//! Source: `Ganeti.Errors` (`OpPrereqError`) and `Ganeti.Confd.Server`.

use super::directory::NotFound;
use super::haskell_show;

/// The start of [`failure`].
pub(super) const FAILURE: &str = "Failure: prerequisites not met for this operation:\n\
    error type: ECodeNoEnt, error details:\nNode name ";

/// The error text for an administrator when a node that a query needs is not found.
pub(super) fn failure(name: &str, why: NotFound) -> String {
    [FAILURE, name, " ", why.words()].concat()
}

/// Appends an `OpPrereqError` as Haskell shows it: `what` (such as "Node name"), `name` and the
/// reason.
pub(super) fn prereq_error(what: &str, name: &str, why: NotFound, out: &mut Vec<u8>) {
    out.extend_from_slice(b"OpPrereqError ");
    haskell_show::string([what, " ", name, " ", why.words()], out);
    out.extend_from_slice(b" ECodeNoEnt");
}
