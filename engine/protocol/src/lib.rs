//! What the engine and a container's shim say to each other.
