//! Adapters of the Store trait.
