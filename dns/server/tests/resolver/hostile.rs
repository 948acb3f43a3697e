use std::{
    io::{Read, Write},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, ResponseCode},
    rr::RecordType,
};
use libnetwork_core::NameServer;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    bed::{self, Namespace, Watch, on_host, server},
    town::*,
};

async fn open() -> (dns_server::DnsServer, Namespace) {
    let (server, inside) = (server(), Namespace::new());
    server.publish(&intent(town()), None);
    server.open(&sandbox(1, "asker"), inside.path()).await.unwrap();
    (server, inside)
}

fn known() -> Vec<u8> {
    bed::query("web.", RecordType::A).to_vec().unwrap()
}

#[test]
fn malformed_datagrams_get_at_most_a_header_and_the_next_query_its_answer() {
    on_host(|| async {
        let (_server, inside) = open().await;
        inside
            .run(|| {
                let header = |questions: u8| vec![0, 9, 1, 0, 0, questions, 0, 0, 0, 0, 0, 0];
                let with = |questions: u8, rest: &[u8]| [header(questions), rest.to_vec()].concat();
                let mut reply_to_no_one = known();
                reply_to_no_one[2] |= 0x80;
                let mut notify = known();
                notify[2] |= 4 << 3;
                let refused = [
                    header(0),
                    header(1),
                    with(2, &[known()[12..].to_vec(), known()[12..].to_vec()].concat()),
                    with(1, &[0xc0, 12, 0, 1, 0, 1]),
                    with(1, &[3, b'w', b'e', b'b', 0xc0, 12, 0, 1, 0, 1]),
                    with(1, &[64; 80]),
                    with(1, &[&[1, b'a'].repeat(200)[..], &[0, 0, 1, 0, 1]].concat()),
                    with(1, &[3, b'w', b'e', b'b', 0, 0, 1]),
                    [known(), b"trailing".to_vec()].concat(),
                    notify,
                ];
                let ignored = [vec![], vec![0; 11], vec![0xff; 400], reply_to_no_one, vec![0; 5000]];
                for packet in &refused {
                    let socket = bed::udp_client();
                    socket.send(packet).unwrap();
                    let reply = bed::receive(&socket).unwrap();
                    assert!(
                        reply.len() == 12 && reply[..2] == packet[..2] && reply[2] & 0x80 != 0,
                        "{packet:?}"
                    );
                    assert!([1, 4].contains(&(reply[3] & 15)), "{packet:?}");
                }
                // What is ignored is followed by a query, whose answer is the first to come.
                let socket = bed::udp_client();
                for packet in &ignored {
                    socket.send(packet).unwrap();
                }
                socket.send(&known()).unwrap();
                let reply = Message::from_vec(&bed::receive(&socket).unwrap()).unwrap();
                assert_eq!(data(&reply), ["10.1.0.2"]);
            })
            .await;
    });
}

#[test]
fn an_unknown_version_of_edns_is_said_to_be_so() {
    on_host(|| async {
        let (_server, inside) = open().await;
        let mut query = bed::query("web.", RecordType::A);
        let mut edns = Edns::new();
        edns.set_version(1);
        query.set_edns(edns);
        let reply = Message::from_vec(&inside.ask_raw(query.to_vec().unwrap()).await.unwrap()).unwrap();
        // BADVERS, whose number TSIG uses for BADSIG (RFC 6891 9).
        assert_eq!(u16::from(reply.metadata.response_code), 16);
        assert!(reply.answers.is_empty());
    });
}

#[test]
fn a_name_that_no_container_can_have_is_not_taken_for_one_that_some_have() {
    on_host(|| async {
        let (_server, inside) = open().await;
        // The one label `web.front`, with its dot inside.
        let packet = [&[0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 9], &b"web.front"[..], &[0, 0, 1, 0, 1]].concat();
        let reply = Message::from_vec(&inside.ask_raw(packet).await.unwrap()).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail, "there is no upstream server");
    });
}

#[test]
fn ten_thousand_connections_that_say_nothing_or_garbage_hold_up_no_one() {
    // A descriptor for each, beside the resolver's own 256: the usual soft limit is 1,024.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let count = 10_000.min(hard.saturating_sub(1000));
    on_host(move || async move {
        let (server, inside) = open().await;
        let neighbour = Namespace::new();
        server.open(&sandbox(2, "web"), neighbour.path()).await.unwrap();
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let flood = inside.run(move || {
            Watch::pass_over_this_thread();
            let mut open = Vec::new();
            for n in 0..count {
                let mut stream = bed::tcp_client();
                // A connection that has given way breaks.
                drop(match n % 4 {
                    0 => Ok(()),
                    1 => stream.write_all(&[0]),
                    2 => stream.write_all(&[0, 40, 1, 2, 3]),
                    _ => stream.write_all(&[0xff; 200]),
                });
                open.push(stream);
            }
            // The oldest gave way.
            let mut first = open.swap_remove(0);
            assert!(matches!(first.read(&mut [0]), Ok(0) | Err(_)));
            // Whoever shares the sandbox with them is answered, too.
            assert!(bed::exchange(&mut bed::tcp_client(), &known()).is_some());
            drop(done);
        });
        let asking = neighbour.run(move || {
            let (mut slowest, mut lookups) = (Duration::ZERO, 0);
            while is_done.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                let watch = Watch::start();
                let udp = bed::udp_client();
                udp.send(&known()).unwrap();
                assert!(bed::receive(&udp).is_some());
                assert!(bed::exchange(&mut bed::tcp_client(), &known()).is_some());
                slowest = slowest.max(watch.elapsed());
                lookups += 1;
            }
            (slowest, lookups)
        });
        let ((), (slowest, lookups)) = tokio::join!(flood, asking);
        eprintln!("{lookups} lookups beside {count} connections, the slowest took {slowest:?}");
        assert!(slowest < Duration::from_secs(5) && lookups > 0, "{slowest:?}");
    });
}

#[test]
fn a_connection_carries_many_queries_however_they_are_cut() {
    on_host(|| async {
        let (_server, inside) = open().await;
        inside
            .run(|| {
                let mut stream = bed::tcp_client();
                stream.set_nodelay(true).unwrap();
                let query = known();
                let framed = [&(query.len() as u16).to_be_bytes(), query.as_slice()].concat();
                let bytes = framed.repeat(5);
                for piece in bytes.chunks(7) {
                    stream.write_all(piece).unwrap();
                }
                for _ in 0..5 {
                    let reply = Message::from_vec(&bed::receive_framed(&mut stream).unwrap()).unwrap();
                    assert_eq!(data(&reply), ["10.1.0.2"]);
                }
                // Garbage in place of a length ends the conversation.
                stream.write_all(&[0xff; 64]).unwrap();
                assert!(bed::receive_framed(&mut stream).is_none());
            })
            .await;
    });
}
