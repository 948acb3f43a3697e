//! Names to answers, pure.
#![forbid(unsafe_code)]
