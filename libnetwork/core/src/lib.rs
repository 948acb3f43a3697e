//! The command actor and the reconciler, with the traits they drive.
//!
//! A command is judged against the intent ([`draft`]), committed ([`actor`]), carried out ([`reconcile`]) and answered
//! when the report has reached its revision. What the world refuses is committed away again before the answer: undo is
//! not code, it is an intent without the thing.
//!
//! *Invariant*: no error is recognised by its text, nothing here knows netlink, nftables, eBPF, gRPC or a container.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod actor;
mod adoption;
mod compile;
mod converge;
mod defaults;
mod draft;
mod drivers;
mod error;
mod event;
mod handle;
mod heard;
mod hints;
mod mapper;
mod networks;
mod openings;
mod owed;
mod owners;
mod publish;
mod reconcile;
mod request;
mod reservations;
mod sandboxes;
mod settings;
mod settle;
mod surroundings;
mod traits;

pub use defaults::Defaults;
pub use draft::{BusyPorts, resolve};
pub use drivers::{Drivers, HOST, NONE};
pub use error::{Cause, Error, chain};
pub use event::{Event, EventKind};
pub use handle::{Config, Handle, Parts, Running, StartError, start};
pub use request::{CreateNetwork, EndpointSpec, Join, Reserve};
pub use traits::{
    Bridges, DeniedPort, Families, Kernel, NameError, NameServer, PortError, PortFigures, PortMapper,
    PortMapping, PortTarget, Publication, Store, StoreError,
};
