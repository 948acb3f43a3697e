//! Random input against a server that runs: whatever comes, the next query gets its answer.

use hickory_proto::{op::Message, rr::RecordType};
use libnetwork_core::NameServer;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::{
    bed::{self, Namespace, on_host, server},
    town::*,
};

fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let mut edns = bed::query("web.front.", RecordType::A);
    edns.set_edns(hickory_proto::op::Edns::new());
    let whole = edns.to_vec().unwrap();
    let flips = vec((0..whole.len(), any::<u8>()), 0..6);
    let changed = (flips, 0..=whole.len(), vec(any::<u8>(), 0..8)).prop_map(move |(flips, cut, tail)| {
        let mut packet = whole.clone();
        for (at, byte) in flips {
            packet[at] = byte;
        }
        packet.truncate(cut);
        packet.extend(tail);
        packet
    });
    prop_oneof![changed, vec(any::<u8>(), 0..600)]
}

#[test]
fn random_input_costs_the_next_query_nothing() {
    on_host(|| async {
        let (server, inside) = (server(), Namespace::new());
        server.publish(&intent(town()), None);
        server.open(&sandbox(1, "asker"), inside.path()).await.unwrap();
        let run = || {
            let mut runner =
                TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
            let known = bed::query("web.", RecordType::A).to_vec().unwrap();
            let checked = runner.run(&(vec(mangled(), 1..10), any::<bool>()), |(packets, tcp)| {
                // First, so that it has another port than those to which answers may come late.
                let socket = bed::udp_client();
                if tcp {
                    let mut stream = bed::tcp_client();
                    for packet in &packets {
                        // The server may have hung up on what came before.
                        drop(bed::send_framed(&mut stream, packet));
                    }
                } else {
                    let hostile = bed::udp_client();
                    for packet in &packets {
                        hostile.send(packet).unwrap();
                    }
                }
                socket.send(&known).unwrap();
                let reply = Message::from_vec(&bed::receive(&socket).unwrap()).unwrap();
                prop_assert_eq!(data(&reply), ["10.1.0.2"]);
                Ok(())
            });
            checked.map_err(|e| e.to_string())
        };
        inside.run(run).await.unwrap();
    });
}
