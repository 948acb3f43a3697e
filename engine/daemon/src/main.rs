//! causeway-engine, the Docker Engine API daemon.
fn main() {}
