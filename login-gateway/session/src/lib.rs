//! What `login-gateway-session` parses, as pure functions: tests and fuzz targets call them. The
//! files, and all that is done as the user, are the program's.
#![forbid(unsafe_code)]

pub mod authorized_keys;
