//! login-gateway-session
fn main() {}
