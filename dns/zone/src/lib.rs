//! Names to answers: which addresses a sandbox is told for a name, and whether a question may leave the host at all.
//!
//! *Invariant*: pure. No socket, no clock, no wire format; a [`Zone`] is derived from an [`libnetwork_model::Intent`]
//! and from nothing else, so an answer cannot outlive the lease that it names.
//!
//! The rules are Docker's (Engine 28), found by asking it:
//! - a sandbox is told of the sandboxes that share a network with it, itself included, and of no other;
//! - each answers to its name, its short id (12 digits, no other prefix) and the aliases of that endpoint, whatever
//!   the case; each also qualified by the network's name, `web.backend`, where both halves may hold dots;
//! - of several networks, the first that has addresses of the wanted family answers (by gateway priority, then by the
//!   network's name); within it, every holder of the name does;
//! - a link (`--link db:postgres`) is a name for the sandbox that asked for it alone, on that network, and stands for
//!   whoever has the other name at that moment; nothing else that is called so answers the sandbox there;
//! - an address on a shared network is called `container.network`;
//! - on the default bridge no names are served.
//!
//! Beyond Docker's rules: an alias `*.app` answers for every name below `app` that nobody has himself, and
//! `host.docker.internal` is the host, as in Docker Desktop (Docker Engine knows it only by `--add-host`).
//!
//! It differs from Docker in one thing: a name that exists has no data for a type that it lacks, where Docker sends
//! SRV, TXT and ANY questions for it to the upstream servers, which tells them what runs here.
#![forbid(unsafe_code)]

mod answer;
mod index;
mod reverse;

pub use answer::{Answer, Because, Forwarding, Kind, Told};
pub use index::{Holders, Zone};
