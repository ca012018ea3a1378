//! sackd-shim-config
fn main() {}
