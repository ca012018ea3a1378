//! An SFTP server (draft-ietf-secsh-filexfer-02, version 3, with OpenSSH's extensions) on standard
//! input and output. It runs as the user and can do what the user can, or less; encryption and
//! login are somebody else's.
//!
//! Bytes come in by `stream` and `input`, become a typed `request`, are put in `order` and on the
//! `schedule`, done by a worker of `server`, and leave as a `reply` through `output`.
#![forbid(unsafe_code)]

pub mod arguments;
pub mod attributes;
mod audit;
mod change;
pub mod fields;
mod file;
mod folder;
mod handles;
pub mod input;
mod listing;
mod names;
mod order;
pub mod output;
pub mod packet;
pub mod paths;
mod people;
pub mod policy;
mod realpath;
pub mod record;
mod refusal;
mod relay;
mod reply;
pub mod request;
mod schedule;
pub mod server;
pub mod stream;
