/// What a caller can do about an error. The gRPC and HTTP mappings are made from this alone, never from a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is malformed or contradicts itself (HTTP 400, gRPC INVALID_ARGUMENT).
    Invalid,
    /// The thing named does not exist (404, NOT_FOUND).
    NotFound,
    /// A name, address or port is taken (409, ALREADY_EXISTS).
    Conflict,
    /// The thing is still in use, or predefined: the request is understood and refused (403, FAILED_PRECONDITION).
    InUse,
    /// A pool of addresses, ports or kernel resources has run out (500, RESOURCE_EXHAUSTED).
    Exhausted,
    /// Something needed is away for now; asking again may help (503, UNAVAILABLE).
    Unavailable,
    /// The kernel, a disk or this program failed (500, INTERNAL).
    Internal,
    /// Known to Docker and not built here (501, UNIMPLEMENTED).
    Unimplemented,
}

/// An error that crosses a boundary says what kind it is.
pub trait HasKind {
    fn kind(&self) -> ErrorKind;
}
