//! What `login-gateway-monitor` parses, as pure functions: tests and fuzz targets call them. Files,
//! messages and processes are the program's.
#![forbid(unsafe_code)]

pub mod key_list;
pub mod krl;
pub mod wire_form;
