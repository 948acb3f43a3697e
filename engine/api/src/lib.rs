//! The Docker Engine API over HTTP: routes, wire types, streams, one error mapping.
