//! Manual pages and the example, made from the definitions: the command line's in `arguments`, the
//! keys' in `gateway_wire::settings`. Nothing is said here that those say.

pub mod example;
pub mod file;
mod keys;
pub mod program;
mod roff;
