//! One request to the engine. One question and one answer need no HTTP library, and the command stays small.

use std::{
    fmt::Write as _,
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("{host} is no address of an engine: unix://PATH or tcp://HOST:PORT")]
    Address { host: String },
    #[error("cannot ask the engine at {host} (is `causeway up` running?)")]
    Io {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("what listens at {host} does not answer as an engine")]
    Answer { host: String },
    /// The engine's own words.
    #[error("{message}")]
    Refused { message: String },
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// The body of the answer: to a GET, or with a body in JSON to a POST.
pub(super) fn ask(host: &str, path: &str, body: Option<&str>) -> Result<String, AskError> {
    let io = |source| AskError::Io { host: host.to_owned(), source };
    let mut stream: Box<dyn Stream> = match host.split_once("://") {
        Some(("unix", path)) => Box::new(UnixStream::connect(path).map_err(io)?),
        Some(("tcp", address)) => Box::new(TcpStream::connect(address).map_err(io)?),
        _ => return Err(AskError::Address { host: host.to_owned() }),
    };
    let method = if body.is_some() { "POST" } else { "GET" };
    // HTTP/1.0: the answer ends with the connection, and is not cut into chunks.
    let mut request = format!("{method} {path} HTTP/1.0\r\nHost: causeway\r\n");
    if let Some(body) = body {
        let length = body.len();
        request += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
    } else {
        request += "\r\n";
    }
    stream.write_all(request.as_bytes()).map_err(io)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(io)?;
    let (status, body) = parse(&answer).ok_or_else(|| AskError::Answer { host: host.to_owned() })?;
    if (200..300).contains(&status) { Ok(body) } else { Err(AskError::Refused { message: message(&body) }) }
}

fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, String::from_utf8(answer[end + 4..].to_vec()).ok()?))
}

/// Docker's `{"message": …}`.
fn message(body: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        message: String,
    }
    serde_json::from_str(body).map_or_else(|_| body.trim().to_owned(), |refusal: Refusal| refusal.message)
}

/// A text as one segment of a path (RFC 3986, section 3.3).
pub(super) fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let ok = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}\n";
        assert_eq!(parse(ok), Some((200, "{}\n".to_owned())));
        for bad in [&b""[..], b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 x\r\n\r\n", b"HTTP/1.1 200 OK\r\n"] {
            assert_eq!(parse(bad), None);
        }
        assert_eq!(message("{\"message\":\"no\"}"), "no");
        assert_eq!(message("bad gateway\n"), "bad gateway");
        assert_eq!(segment("a/b c"), "a%2Fb%20c");
    }
}
