//! Networks, endpoints, sandboxes and published ports as plain data.
