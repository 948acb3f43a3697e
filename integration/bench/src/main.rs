//! The figures the README quotes.
fn main() {}
