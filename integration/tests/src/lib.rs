//! What a user does, through the docker CLI and the API.
