//! The program `spark`.
fn main() {}
