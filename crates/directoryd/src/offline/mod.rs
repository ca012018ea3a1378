//! Passwords checked while no directory server can be asked, where `[offline-passwords]` says so: what is
//! kept of a password that a server has just taken, and for how long it counts.
//!
//! When this is asked at all is [`crate::authenticate`]'s matter. Nothing here knows of LDAP.

mod file;
mod keeper;
mod kept;
mod turn;
mod verifier;

pub use keeper::start;
pub use kept::{Offline, Remember};
