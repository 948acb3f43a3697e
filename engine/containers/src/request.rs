//! What of a creation depends on the version of the API that the client speaks.

/// From this version on, MAC addresses belong to endpoints.
pub(crate) const MACS_OF_ENDPOINTS: u32 = 44;
