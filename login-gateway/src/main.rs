//! login-gateway
fn main() {}
