//! login-gateway-net
fn main() {}
