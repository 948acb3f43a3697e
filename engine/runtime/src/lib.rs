//! OCI bundles and specs, and the client of the shim.
