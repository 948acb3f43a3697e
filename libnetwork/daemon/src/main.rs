//! causewayd, the network daemon.
fn main() {}
