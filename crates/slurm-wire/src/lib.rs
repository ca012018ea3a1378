//! Slurm's bytes, packed and unpacked: SACK frames, RPC headers and the few messages a login
//! node speaks, the MUNGE exchange, controllers' addresses, and the settings of slurm.conf that a signer needs.
//! No sockets, no files, no keys: every function takes bytes and gives bytes or an error.
#![forbid(unsafe_code)]

mod error;
mod pack;
mod unpack;
mod version;

pub mod address;
pub mod auth_token;
pub mod configuration;
pub mod dns;
pub mod munge;
pub mod return_code;
pub mod rpc;
pub mod sack;
pub mod slurm_conf;

pub use error::WireError;
pub use pack::Packer;
pub use unpack::Unpacker;
pub use version::ProtocolVersion;
