//! A private host per test.
