//! The same cases against Debian's sshd first, then against our gateway: one case per behaviour, in
//! a file named for its theme. What we lack is listed in `lacking.rs` with its reason; a listed case
//! that passes fails the run.

mod both;
mod exit;
mod lacking;
