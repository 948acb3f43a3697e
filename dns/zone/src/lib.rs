//! Names to answers, pure.
