use std::{path::Path, sync::Arc};

use axum::{Router, routing::post};
use engine_containers::Output;
use futures_util::stream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::Notify,
    task::JoinHandle,
};

use super::*;
use crate::{
    json::Json,
    server::{Listener, finish, serve},
    stream::json_lines,
};

/// Longer than anything here takes, also where the machine stands still for a minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process like cat: what goes in comes out, until the input ends.
struct Cat(Option<mpsc::Sender<io::Result<Output>>>);

impl Stdin for Cat {
    async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let output = Output { stream: StdStream::Stdout, data: Bytes::copy_from_slice(data) };
        let sender = self.0.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        sender.send(Ok(output)).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    async fn end(&mut self) -> io::Result<()> {
        self.0 = None;
        Ok(())
    }
}

fn cat() -> (OutputStream, Option<Cat>) {
    let (sender, receiver) = mpsc::channel(4);
    (Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver)), Some(Cat(Some(sender))))
}

struct Server {
    directory: tempfile::TempDir,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    fn start(routes: Router) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("api.sock")).unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(vec![Listener::Unix(listener)], finish(routes), shutdown.clone()));
        Self { directory, shutdown, task }
    }

    fn socket(&self) -> impl AsRef<Path> {
        self.directory.path().join("api.sock")
    }

    async fn ask(&self, request: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }
}

fn echo(tty: bool) -> Router {
    Router::new().route(
        "/containers/{id}/attach",
        post(move |hijack: Hijack| async move {
            let (output, input) = cat();
            hijack.connect(tty, output, input).await
        }),
    )
}

async fn head(stream: &mut UnixStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

const UPGRADE: &str = "Host: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n";

#[tokio::test]
async fn input_comes_back_framed_and_half_a_close_ends_only_the_input() {
    let server = Server::start(echo(false));
    let mut stream = server.ask(&format!("POST /v1.51/containers/a/attach HTTP/1.1\r\n{UPGRADE}\r\n")).await;
    let head = head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
    assert!(head.contains("Content-Type: application/vnd.docker.multiplexed-stream\r\n"), "{head}");
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"\x01\0\0\0\0\0\0\x05hello");
}

#[tokio::test]
async fn a_terminal_is_raw_and_so_is_what_old_versions_call_it() {
    for (tty, version) in [(true, "v1.51"), (false, "v1.41")] {
        let server = Server::start(echo(tty));
        let mut stream =
            server.ask(&format!("POST /{version}/containers/a/attach HTTP/1.1\r\n{UPGRADE}\r\n")).await;
        assert!(head(&mut stream).await.contains("application/vnd.docker.raw-stream"));
    }
}

#[tokio::test]
async fn a_client_that_asks_for_no_upgrade_gets_its_stream_and_loses_no_early_input() {
    let server = Server::start(echo(true));
    let request = "POST /containers/a/attach HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\nearly ";
    let mut stream = server.ask(request).await;
    let head = head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    stream.write_all(b"late").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "early late");
}

#[tokio::test]
async fn a_body_before_the_stream_is_read_as_one() {
    let routes = Router::new().route(
        "/exec/{id}/start",
        post(|hijack: Hijack, Json(body): Json<serde_json::Value>| async move {
            hijack.say(format!("cannot run {}", body["Cmd"]), true).await
        }),
    );
    let server = Server::start(routes);
    let request = format!(
        "POST /exec/a/start HTTP/1.1\r\n{UPGRADE}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{}",
        r#"{"Cmd":1}"#
    );
    let mut stream = server.ask(&request).await;
    head(&mut stream).await;
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "cannot run 1\r\n");
}

#[tokio::test]
async fn much_data_passes_through_a_client_that_reads_late() {
    let server = Server::start(echo(true));
    let stream = server.ask(&format!("POST /containers/a/attach HTTP/1.1\r\n{UPGRADE}\r\n")).await;
    let (mut reader, mut writer) = stream.into_split();
    const SIZE: usize = 4 << 20;
    let sending = tokio::spawn(async move {
        let data: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
        writer.write_all(&data).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut all = Vec::new();
    reader.read_to_end(&mut all).await.unwrap();
    sending.await.unwrap();
    let start = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(all.len() - start, SIZE);
    assert!(all[start..].iter().enumerate().all(|(i, byte)| *byte == (i % 251) as u8));
}

#[tokio::test]
async fn the_end_of_the_output_reaches_a_client_that_goes_on_sending() {
    let routes = Router::new().route(
        "/a",
        post(|hijack: Hijack| async move {
            let last = Output { stream: StdStream::Stdout, data: Bytes::from_static(b"bye") };
            let output: OutputStream = Box::pin(stream::iter([Ok(last)]));
            hijack.connect(true, output, None::<Cat>).await
        }),
    );
    let server = Server::start(routes);
    let mut stream = server.ask(&format!("POST /a HTTP/1.1\r\n{UPGRADE}\r\n")).await;
    // More than a socket buffer would take unread.
    let (mut reader, mut writer) = stream.split();
    let send = async {
        let junk = [0; 64 << 10];
        for _ in 0..32 {
            if writer.write_all(&junk).await.is_err() {
                break;
            }
        }
    };
    let read = async {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        all
    };
    let (_, all) = tokio::join!(send, read);
    assert!(all.ends_with(b"\r\n\r\nbye"));
}

/// Tells when it is dropped.
struct Gone(Arc<Notify>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn until_dropped<T: Send + 'static>(
    gone: &Arc<Notify>,
) -> impl futures_util::Stream<Item = T> + Send + use<T> {
    let guard = Gone(gone.clone());
    stream::pending().inspect(move |_| {
        let _ = &guard;
    })
}

#[tokio::test]
async fn a_body_without_an_end_ends_with_its_client() {
    let gone = Arc::new(Notify::new());
    let told = gone.clone();
    let routes = Router::new().route("/wait", post(move || async move { json_lines(until_dropped(&told)) }));
    let server = Server::start(routes);
    let mut stream = server.ask("POST /wait HTTP/1.1\r\nHost: d\r\n\r\n").await;
    // The head comes at once: the CLI waits for it before it starts the container that it waits for.
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
    drop(stream);
    tokio::time::timeout(PATIENCE, gone.notified()).await.unwrap();
}

#[tokio::test]
async fn a_request_is_finished_also_when_its_client_is_gone() {
    let (begun, go_on, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let theirs = (begun.clone(), go_on.clone(), done.clone());
    let routes = Router::new().route(
        "/start",
        post(move || async move {
            theirs.0.notify_one();
            theirs.1.notified().await;
            theirs.2.notify_one();
        }),
    );
    let server = Server::start(routes);
    let stream = server.ask("POST /start HTTP/1.1\r\nHost: d\r\n\r\n").await;
    begun.notified().await;
    drop(stream);
    go_on.notify_one();
    tokio::time::timeout(PATIENCE, done.notified()).await.unwrap();
}

#[tokio::test]
async fn a_silent_stream_ends_with_its_client() {
    let gone = Arc::new(Notify::new());
    let told = gone.clone();
    let routes = Router::new().route(
        "/a",
        post(move |hijack: Hijack| async move {
            let output: OutputStream = Box::pin(until_dropped(&told));
            hijack.connect(true, output, None::<Cat>).await
        }),
    );
    let server = Server::start(routes);
    let mut stream = server.ask(&format!("POST /a HTTP/1.1\r\n{UPGRADE}\r\n")).await;
    head(&mut stream).await;
    drop(stream);
    tokio::time::timeout(PATIENCE, gone.notified()).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_the_server() {
    let server = Server::start(echo(true));
    let mut stream = server.ask(&format!("POST /containers/a/attach HTTP/1.1\r\n{UPGRADE}\r\n")).await;
    head(&mut stream).await;
    server.shutdown.cancel();
    tokio::time::timeout(PATIENCE, server.task).await.unwrap().unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}
