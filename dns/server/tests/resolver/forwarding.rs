use std::{
    io::Write,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Edns, Message, ResponseCode},
    rr::{RData, Record, RecordType, rdata::NULL},
};
use libnetwork_core::NameServer;
use libnetwork_model::{HostFacts, Network, Resolver, Sandbox};

use crate::{
    bed::{self, Namespace, Watch, on_host, server},
    town::*,
    upstream::{self, addresses, encode, ip},
};

const EXAMPLE: [u8; 4] = [192, 0, 2, 7];
/// What is to be quick may be slow for once, on a machine with other things to do.
const ATTEMPTS: usize = 10;

/// A sandbox of [`town`] that is open, and its resolver, which forwards to these of the host's addresses.
async fn open(resolvers: &[&str]) -> (dns_server::DnsServer, Namespace) {
    let (server, inside) = (server(), Namespace::new());
    server.publish(&intent(town()), None);
    server.upstreams(&HostFacts {
        resolvers: resolvers.iter().map(|r| ip(r)).collect(),
        ..HostFacts::default()
    });
    server.open(&sandbox(1, "asker"), inside.path()).await.unwrap();
    (server, inside)
}

fn helpful(query: &Message, _tcp: bool) -> Option<Vec<u8>> {
    encode(addresses(query, EXAMPLE, 1))
}

#[test]
fn what_is_not_ours_is_asked_of_the_host_s_resolver_and_what_is_ours_never() {
    on_host(|| async {
        let asked = upstream::start("127.0.0.53", None, helpful).await;
        let (_server, inside) = open(&["127.0.0.53"]).await;
        for kind in [RecordType::A, RecordType::AAAA, RecordType::MX, RecordType::TXT, RecordType::ANY] {
            inside.ask("web.", kind).await;
            inside.ask_tcp("web.front.", kind).await;
            inside.ask("2.0.1.10.in-addr.arpa.", kind).await;
        }
        assert!(asked.lock().unwrap().is_empty());
        assert_eq!(data(&inside.ask("Example.com.", RecordType::A).await), ["192.0.2.7"]);
        assert_eq!(data(&inside.ask_tcp("tcp.example.com.", RecordType::A).await), ["192.0.2.7"]);
        let edns = inside.ask_edns("example.com.", RecordType::A, 1400).await;
        assert_eq!(data(&edns), ["192.0.2.7"]);
        let asked = asked.lock().unwrap();
        let mut over_tcp: Vec<bool> = asked.iter().map(|(tcp, _)| *tcp).collect();
        // What is not answered in time is asked again.
        over_tcp.dedup();
        assert_eq!(over_tcp, [false, true, false]);
        let passed_on = asked.last().unwrap().1.edns.as_ref().unwrap();
        assert!(passed_on.max_payload() == 1400 && passed_on.flags().dnssec_ok);
    });
}

#[test]
fn each_query_goes_upstream_under_an_id_of_its_own() {
    on_host(|| async {
        let asked = upstream::start("127.0.0.53", None, helpful).await;
        let (_server, inside) = open(&["127.0.0.53"]).await;
        for n in 0..16 {
            let mut query = bed::query(&format!("{n}.example.com."), RecordType::A);
            query.metadata.id = 7;
            let reply = inside.ask_raw(query.to_vec().unwrap()).await.unwrap();
            assert_eq!(Message::from_vec(&reply).unwrap().metadata.id, 7);
        }
        let mut ids: Vec<u16> = asked.lock().unwrap().iter().map(|(_, m)| m.metadata.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert!(ids.len() >= 15, "{ids:?}");
    });
}

#[test]
fn servers_given_by_the_user_are_asked_from_inside_the_sandbox() {
    on_host(|| async {
        // The same address, on the host and inside: only where the query leaves from tells them apart.
        let outside =
            upstream::start("127.0.0.53", None, |q, _| encode(addresses(q, [192, 0, 2, 1], 1))).await;
        let (server, inside) = open(&["127.0.0.53"]).await;
        upstream::start("127.0.0.53", Some(&inside), |q, _| encode(addresses(q, [192, 0, 2, 2], 1))).await;
        let resolver = Resolver { servers: vec![ip("127.0.0.53")], ..Resolver::default() };
        let mut mutations = town();
        mutations.push(put_sandbox(Sandbox { resolver, ..sandbox(1, "asker") }));
        server.publish(&intent(mutations), None);
        assert_eq!(data(&inside.ask("example.com.", RecordType::A).await), ["192.0.2.2"]);
        assert_eq!(data(&inside.ask_tcp("example.com.", RecordType::A).await), ["192.0.2.2"]);
        assert!(outside.lock().unwrap().is_empty());
    });
}

#[test]
fn a_sandbox_on_internal_networks_alone_forwards_nothing() {
    on_host(|| async {
        let asked = upstream::start("127.0.0.53", None, helpful).await;
        let (server, inside) = open(&["127.0.0.53"]).await;
        let mut mutations = town();
        mutations.push(put_network(Network { internal: true, ..network(1, "front") }));
        server.publish(&intent(mutations), None);
        assert_eq!(data(&inside.ask("web.", RecordType::A).await), ["10.1.0.2"]);
        let reply = inside.ask("example.com.", RecordType::A).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
        assert!(asked.lock().unwrap().is_empty());
    });
}

#[test]
fn a_silent_server_gives_way_to_the_next_and_is_asked_last_from_there_on() {
    on_host(|| async {
        let silent = upstream::start("127.0.1.1", None, |_, _| None).await;
        upstream::start("127.0.1.2", None, helpful).await;
        let mut attempts = Vec::new();
        for _ in 0..ATTEMPTS {
            // To this resolver none has been silent yet.
            let (_server, inside) = open(&["127.0.1.1", "127.0.1.2"]).await;
            silent.lock().unwrap().clear();
            let watch = Watch::start();
            assert_eq!(data(&inside.ask("example.com.", RecordType::A).await), ["192.0.2.7"]);
            let took = watch.elapsed();
            assert_eq!(data(&inside.ask("example.org.", RecordType::A).await), ["192.0.2.7"]);
            let asked = silent.lock().unwrap().len();
            // Not where the machine stood still for so long that it is asked first again.
            if took < Duration::from_secs(4) && asked == 1 {
                return;
            }
            attempts.push((took, asked));
        }
        panic!("how long it took, and how often the silent one was asked: {attempts:?}");
    });
}

#[test]
fn a_server_that_refuses_or_is_not_there_gives_way_at_once() {
    on_host(|| async {
        fn refuse(query: &Message, _tcp: bool) -> Option<Vec<u8>> {
            let mut reply = upstream::reply(query);
            reply.metadata.response_code = ResponseCode::Refused;
            encode(reply)
        }
        upstream::start("127.0.1.2", None, refuse).await;
        upstream::start("127.0.1.3", None, helpful).await;
        let mut quickest = Duration::MAX;
        for _ in 0..ATTEMPTS {
            // Nothing listens on the first.
            let (server, inside) = open(&["127.0.1.1", "127.0.1.2", "127.0.1.3"]).await;
            let watch = Watch::start();
            assert_eq!(data(&inside.ask("example.com.", RecordType::A).await), ["192.0.2.7"]);
            server.upstreams(&HostFacts { resolvers: vec![ip("127.0.1.2")], ..HostFacts::default() });
            let refused = inside.ask("example.com.", RecordType::A).await;
            assert_eq!(refused.metadata.response_code, ResponseCode::Refused, "the last word is passed on");
            server.upstreams(&HostFacts { resolvers: vec![ip("127.0.1.1")], ..HostFacts::default() });
            for reply in
                [inside.ask("example.com.", RecordType::A).await, inside.ask_tcp("a.b.", RecordType::A).await]
            {
                assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
            }
            quickest = quickest.min(watch.elapsed());
            // A server that is waited for takes two seconds, each time.
            if quickest < Duration::from_secs(1) {
                return;
            }
        }
        panic!("{quickest:?}");
    });
}

#[test]
fn a_truncated_reply_is_fetched_over_tcp_where_the_client_takes_it() {
    on_host(|| async {
        fn large(query: &Message, tcp: bool) -> Option<Vec<u8>> {
            if tcp {
                return encode(addresses(query, [192, 0, 2, 1], 60));
            }
            let mut reply = upstream::reply(query);
            reply.metadata.truncation = true;
            encode(reply)
        }
        upstream::start("127.0.0.53", None, large).await;
        let (_server, inside) = open(&["127.0.0.53"]).await;
        let whole = inside.ask_edns("example.com.", RecordType::A, 4096).await;
        assert!(!whole.metadata.truncation && whole.answers.len() == 60);
        assert_eq!(inside.ask_tcp("example.com.", RecordType::A).await.answers.len(), 60);
        let cut = inside.ask("example.com.", RecordType::A).await;
        assert!(cut.metadata.truncation && cut.answers.is_empty());
    });
}

#[test]
fn signatures_and_the_bits_of_dnssec_are_passed_on_byte_for_byte() {
    on_host(|| async {
        /// With the answer's signature (RFC 4034 3.1), which nobody here reads, validated by the server.
        fn signed(query: &Message, _tcp: bool) -> Option<Vec<u8>> {
            encode(aged(query, 0))
        }
        fn aged(query: &Message, age: u32) -> Message {
            let mut reply = addresses(query, EXAMPLE, 1);
            reply.metadata.authentic_data = true;
            let rrsig = RecordType::RRSIG;
            let data = NULL::with([&[0, 1, 13, 2, 0, 0, 0, 60][..], &[7; 80]].concat());
            let name = query.queries[0].name.clone();
            reply.add_answer(Record::from_rdata(name, 3600, RData::Unknown { code: rrsig, rdata: data }));
            reply.answers.iter_mut().for_each(|record| record.ttl -= age);
            reply
        }
        let asked = upstream::start("127.0.0.53", None, signed).await;
        let (_server, inside) = open(&["127.0.0.53"]).await;
        let mut query = bed::query("signed.example.", RecordType::A);
        query.metadata.id = 7;
        query.metadata.checking_disabled = true;
        let mut edns = Edns::new();
        edns.set_max_payload(1232).set_dnssec_ok(true);
        query.set_edns(edns);
        let (start, mut times_asked) = (Instant::now(), 0);
        // The second time it is one that was kept, perhaps for some seconds.
        for round in 0..2 {
            let reply = inside.ask_raw(query.to_vec().unwrap()).await.unwrap();
            let mut sent = asked.lock().unwrap()[0].1.clone();
            assert!(sent.metadata.checking_disabled && sent.edns.as_ref().unwrap().flags().dnssec_ok);
            sent.metadata.id = 7;
            let oldest = if round == 0 { 0 } else { start.elapsed().as_secs() as u32 };
            let mut fitting = (0..=oldest).map(|age| encode(aged(&sent, age)).unwrap());
            assert!(fitting.any(|expected| expected == reply), "{reply:?} to {sent:?}");
            let before = std::mem::replace(&mut times_asked, asked.lock().unwrap().len());
            assert_eq!(before == times_asked, round == 1);
        }
    });
}

#[test]
fn a_reply_longer_than_the_client_takes_is_cut_and_marked() {
    on_host(|| async {
        upstream::start("127.0.0.53", None, |q, _| encode(addresses(q, [192, 0, 2, 1], 100))).await;
        let (_server, inside) = open(&["127.0.0.53"]).await;
        let cut = inside.ask("example.com.", RecordType::A).await;
        assert!(cut.metadata.truncation && cut.queries.len() == 1);
        assert_eq!(inside.ask_tcp("example.com.", RecordType::A).await.answers.len(), 100);
    });
}

#[test]
fn a_forged_reply_is_passed_over() {
    on_host(|| async {
        fn forge(query: &Message, _tcp: bool) -> Option<Vec<u8>> {
            let mut other = addresses(query, [203, 0, 113, 1], 1);
            other.metadata.id = other.metadata.id.wrapping_add(1);
            encode(other)
        }
        upstream::start("127.0.1.1", None, forge).await;
        upstream::start("127.0.1.2", None, |q, _| {
            let mut elsewhere = bed::query("other.com.", RecordType::A);
            elsewhere.metadata.id = q.metadata.id;
            encode(addresses(&elsewhere, [203, 0, 113, 1], 1))
        })
        .await;
        upstream::start("127.0.1.3", None, helpful).await;
        let (_server, inside) = open(&["127.0.1.1", "127.0.1.2", "127.0.1.3"]).await;
        assert_eq!(data(&inside.ask("example.com.", RecordType::A).await), ["192.0.2.7"]);
    });
}

#[test]
fn slow_queries_hold_up_neither_each_other_nor_a_known_name() {
    on_host(|| async {
        upstream::start("127.0.0.53", None, |_, _| None).await;
        let known = || bed::query("web.", RecordType::A).to_vec().unwrap();
        let comes_first = move || {
            let slow = bed::udp_client();
            for n in 0..1000 {
                let query = bed::query(&format!("slow{n}.example."), RecordType::A);
                slow.send(&query.to_vec().unwrap()).unwrap();
            }
            let quick = bed::udp_client();
            quick.send(&known()).unwrap();
            assert!(bed::receive(&quick).is_some());
            slow.set_nonblocking(true).unwrap();
            bed::receive(&slow).is_none()
        };
        // The slow ones are answered after some seconds: not before, but where the machine stood still for so long.
        let mut is_first = false;
        for _ in 0..ATTEMPTS {
            let (_server, inside) = open(&["127.0.0.53"]).await;
            is_first = inside.run(comes_first).await;
            if is_first {
                break;
            }
        }
        assert!(is_first, "{ATTEMPTS} times behind the slow ones");

        // Over one connection too: the known name behind the slow one comes first.
        let (_server, inside) = open(&["127.0.0.53"]).await;
        let over_tcp = move || {
            let mut stream = bed::tcp_client();
            let queries = [bed::query("slow.", RecordType::A).to_vec().unwrap(), known()];
            let framed = queries.map(|query| [&(query.len() as u16).to_be_bytes(), &query[..]].concat());
            stream.write_all(&framed.concat()).unwrap();
            bed::receive_framed(&mut stream).unwrap()
        };
        let first = inside.run(over_tcp).await;
        assert_eq!(data(&Message::from_vec(&first).unwrap()), ["10.1.0.2"]);
    });
}
