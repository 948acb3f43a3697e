//! The resolver in real namespaces: real sockets, real clients, a real upstream server. Needs root.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bed;
mod explained;
mod forwarding;
mod fuzz;
mod hostile;
mod names;
mod programs;
mod resolved;
mod town;
mod upstream;
