//! The command actor and the reconciler, with the traits they drive.
#![forbid(unsafe_code)]

mod traits;

pub use traits::{NameError, NameServer, PortError, PortMapper, PortMapping, PortTarget, Store, StoreError};
