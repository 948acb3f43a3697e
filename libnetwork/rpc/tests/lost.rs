//! Which answers count as lost: a call may be repeated after those alone.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use libnetwork_model::ErrorKind;
use libnetwork_rpc::{
    client::{again, connect_within},
    is_transport, kind, v1,
};
use tokio::net::UnixListener;
use tonic::{Code, Status};

/// Asks a server for a network that answers with a message of so many bytes; of none, ends the connection instead. With how
/// often it was asked.
async fn refused(length: usize) -> (Status, u32) {
    let directory = tempfile::TempDir::new().unwrap();
    let socket = directory.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let asked = count.clone();
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut connection) = h2::server::handshake(stream).await else { continue };
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                if length == 0 {
                    break;
                }
                let answer = http::Response::builder()
                    .header("content-type", "application/grpc")
                    .header("grpc-status", Code::FailedPrecondition as i32)
                    .header("grpc-message", "x".repeat(length));
                respond.send_response(answer.body(()).unwrap(), true).unwrap();
            }
        }
    });
    let client = connect_within(&socket, Duration::from_secs(1));
    let ask = || {
        let mut client = client.clone();
        async move { client.get_network(v1::GetNetworkRequest::default()).await }
    };
    let status = again(ask).await.unwrap_err();
    server.abort();
    (status, asked.load(Ordering::Relaxed))
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_taken_for_a_daemon_that_is_away() {
    let (fits, _) = refused(8 << 10).await;
    assert_eq!((kind(&fits), is_transport(&fits)), (ErrorKind::InUse, false));
    let (unfit, asked) = refused(20 << 10).await;
    assert!(!is_transport(&unfit), "{unfit:?}");
    assert_eq!(kind(&unfit), ErrorKind::Internal, "{unfit:?}");
    assert_eq!(asked, 1, "it was asked for again");
}

#[tokio::test]
async fn an_answer_that_goes_with_its_connection_is_asked_for_again() {
    let (lost, asked) = refused(0).await;
    assert!(is_transport(&lost), "{lost:?}");
    assert_eq!(kind(&lost), ErrorKind::Unavailable);
    assert!(asked > 1, "it was asked for once");
}
