//! What `login-gateway-accept` parses, as pure functions: tests and fuzz targets call them.
//! Sockets, time and the sandbox are the program's.
#![forbid(unsafe_code)]

pub mod http;
pub mod metrics;
pub mod proxy_header;
mod proxy_tlv;
