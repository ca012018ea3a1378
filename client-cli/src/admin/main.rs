//! login-admin
fn main() {}
