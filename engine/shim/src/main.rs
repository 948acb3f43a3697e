//! causeway-shim: one small process per container.
fn main() {}
