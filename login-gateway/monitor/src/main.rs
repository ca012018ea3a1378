//! login-gateway-monitor
fn main() {}
