//! Address and port allocation, pure, over the leases of an intent.
