use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

/// Plain HTTP over the engine's socket, for what the docker CLI would not send.
pub struct Api {
    socket: PathBuf,
}

/// An HTTP answer, read to its end.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

impl Response {
    /// The body as JSON; panics when it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e} in {} {:?}", self.status, String::from_utf8_lossy(&self.body)))
    }

    /// Docker's error text, `{"message": …}`.
    #[track_caller]
    pub fn message(&self) -> String {
        self.json()["message"].as_str().expect("an error has a message").to_owned()
    }
}

impl Api {
    /// The engine that listens on a unix socket.
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, "", b"")
    }

    pub fn delete(&self, path: &str) -> Response {
        self.request("DELETE", path, "", b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.request("POST", path, "application/json", body.to_string().as_bytes())
    }

    /// Sends a request and hangs up.
    pub fn leave(&self, method: &str, path: &str, body: &Value) {
        self.ask(method, path, "application/json", body.to_string().as_bytes());
    }

    fn ask(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(&self.socket).expect("the engine's socket takes connections");
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n");
        if !content_type.is_empty() {
            head += &format!("Content-Type: {content_type}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        // The engine may answer, and close, before it has read a body that it refuses.
        let _ = stream.write_all(body);
        stream
    }

    /// Sends a request as it is, and reads until the engine closes the connection.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Response {
        let mut stream = self.ask(method, path, content_type, body);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // Behind the answer: what it had not read of the body is reset when it closes.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !answer.is_empty() => {}
            other => _ = other.unwrap_or_else(|error| panic!("{method} {path}: {error}")),
        }
        parse(&answer)
            .unwrap_or_else(|| panic!("{method} {path}: no HTTP in {:?}", String::from_utf8_lossy(&answer)))
    }
}

fn parse(answer: &[u8]) -> Option<Response> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let headers = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = headers.split_whitespace().nth(1)?.parse().ok()?;
    let body = &answer[end + 4..];
    let chunked = headers.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Some(Response { status, headers, body: if chunked { unchunk(body)? } else { body.to_vec() } })
}

/// RFC 9112, section 7.1, without extensions and trailers.
fn unchunk(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).ok()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.extend(body.get(end + 2..end + 2 + size)?);
        body = body.get(end + 4 + size..)?;
    }
}
