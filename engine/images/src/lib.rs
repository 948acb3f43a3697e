//! Content store, layers, import, load, save.
