//! The host and none drivers.
