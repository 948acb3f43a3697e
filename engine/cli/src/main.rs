//! causeway, the operator's command.
fn main() {}
