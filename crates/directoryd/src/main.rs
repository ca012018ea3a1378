//! directoryd
fn main() {}
