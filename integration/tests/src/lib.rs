//! What a user does, through the docker CLI and the API. The tests are in `tests/`, a file per subject.
