//! What the directory daemon tells a program that asks it directly: types, codec, blocking client.
//!
//! Names and numbers are asked through libc (`getpwnam` and its relatives), not here; here is what
//! libc cannot express: ssh keys, account state, passwords, why somebody may not log in. No async.
#![forbid(unsafe_code)]

mod account;
mod client;
pub mod codec;
mod entry;
mod error;
mod explanation;
mod password;
mod status;

pub use account::{Account, AccountState, Lookup};
pub use client::Client;
pub use entry::{Database, Entry, Record};
pub use error::ClientError;
pub use explanation::{Explanation, Finding};
pub use password::{Change, MAX_PASSWORD, NotAPassword, Password, Verdict};
pub use status::{Domain, Status};
