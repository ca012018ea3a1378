//! sackd-shim
fn main() {}
