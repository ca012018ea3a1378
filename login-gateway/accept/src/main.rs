//! login-gateway-accept
fn main() {}
