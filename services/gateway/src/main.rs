//! D
fn main() {}
