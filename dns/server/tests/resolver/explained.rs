//! What was said lately is not asked again, and whoever looks is told why an answer is what it is.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use dns_server::{DnsServer, Lookup, QueryError, Reason};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use libnetwork_core::NameServer;
use libnetwork_model::{HostFacts, Network, Resolver, Sandbox};
use tokio::sync::broadcast;

use crate::{
    bed::{Namespace, PATIENCE, on_host, server},
    town::*,
    upstream::{self, addresses, encode, ip},
};

async fn open(resolvers: &[&str]) -> (DnsServer, Namespace) {
    let (server, inside) = (server(), Namespace::new());
    server.publish(&intent(town()), None);
    use_resolvers(&server, resolvers);
    server.open(&sandbox(1, "asker"), inside.path()).await.unwrap();
    (server, inside)
}

fn use_resolvers(server: &DnsServer, resolvers: &[&str]) {
    let resolvers = resolvers.iter().map(|r| ip(r)).collect();
    server.upstreams(&HostFacts { resolvers, ..HostFacts::default() });
}

fn helpful(query: &Message, _tcp: bool) -> Option<Vec<u8>> {
    encode(addresses(query, [192, 0, 2, 7], 2))
}

async fn why(server: &DnsServer, name: &str, kind: &str) -> Reason {
    server.query(&sandbox(1, "asker").id, name, kind).await.unwrap().reason
}

#[test]
fn what_was_said_lately_is_not_asked_again_until_the_host_s_resolvers_change() {
    /// Says something else each time.
    fn counting(query: &Message, _tcp: bool) -> Option<Vec<u8>> {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        encode(addresses(query, [192, 0, 2, COUNT.fetch_add(1, Ordering::Relaxed)], 1))
    }
    on_host(|| async {
        upstream::start("127.0.1.1", None, counting).await;
        upstream::start("127.0.1.2", None, |q, _| encode(addresses(q, [198, 51, 100, 1], 1))).await;
        let (server, inside) = open(&["127.0.1.1"]).await;
        let other = Namespace::new();
        server.open(&sandbox(2, "web"), other.path()).await.unwrap();
        let said = data(&inside.ask("example.com.", RecordType::A).await);
        for asker in [&inside, &inside, &other] {
            assert_eq!(data(&asker.ask("example.com.", RecordType::A).await), said);
        }
        assert_eq!(data(&inside.ask_tcp("EXAMPLE.com.", RecordType::A).await), said);
        // Another type, and DNSSEC.
        let of_another_type = data(&inside.ask("example.com.", RecordType::AAAA).await);
        let signed = data(&inside.ask_edns("example.com.", RecordType::A, 4096).await);
        assert!(said != of_another_type && said != signed && of_another_type != signed);
        use_resolvers(&server, &["127.0.1.2"]);
        assert_eq!(data(&inside.ask("example.com.", RecordType::A).await), ["198.51.100.1"]);
    });
}

#[test]
fn a_container_s_own_servers_and_the_host_s_know_nothing_of_each_other() {
    on_host(|| async {
        // The same address on the host and in both sandboxes, and each another machine.
        upstream::start("127.0.0.53", None, |q, _| encode(addresses(q, [192, 0, 2, 1], 1))).await;
        let (server, first) = open(&["127.0.0.53"]).await;
        let second = Namespace::new();
        server.open(&sandbox(2, "web"), second.path()).await.unwrap();
        upstream::start("127.0.0.53", Some(&first), |q, _| encode(addresses(q, [192, 0, 2, 2], 1))).await;
        upstream::start("127.0.0.53", Some(&second), |q, _| encode(addresses(q, [192, 0, 2, 3], 1))).await;
        assert_eq!(data(&first.ask("example.com.", RecordType::A).await), ["192.0.2.1"]);
        let resolver = Resolver { servers: vec![ip("127.0.0.53")], ..Resolver::default() };
        let mut mutations = town();
        for (n, name) in [(1, "asker"), (2, "web")] {
            mutations.push(put_sandbox(Sandbox { resolver: resolver.clone(), ..sandbox(n, name) }));
        }
        server.publish(&intent(mutations), None);
        assert_eq!(data(&first.ask("example.com.", RecordType::A).await), ["192.0.2.2"]);
        assert_eq!(data(&second.ask("example.com.", RecordType::A).await), ["192.0.2.3"]);
    });
}

#[test]
fn a_question_is_answered_with_its_reason() {
    on_host(|| async {
        upstream::start("127.0.0.53", None, helpful).await;
        let (server, inside) = open(&["127.0.0.53"]).await;
        let id = sandbox(1, "asker").id;
        let container = |name: &str, is_alias, holders: &[&str]| Reason::Container {
            network: "front".into(),
            name: name.into(),
            is_alias,
            holders: holders.iter().map(|h| (*h).into()).collect(),
        };
        assert_eq!(why(&server, "Web", "a").await, container("web", false, &["web"]));
        assert_eq!(why(&server, "web.front", "A").await, container("web", false, &["web"]));
        assert_eq!(why(&server, "pool", "TXT").await, container("pool", true, &["web", "db"]));
        let reverse = why(&server, "2.0.1.10.in-addr.arpa", "PTR").await;
        assert_eq!(reverse, Reason::Address { network: "front".into() });
        assert_eq!(why(&server, "example.com", "A").await, Reason::Upstream { server: ip("127.0.0.53") });
        // What it was told is what the container is told.
        inside.ask("example.com.", RecordType::A).await;
        let cached = server.query(&id, "example.com", "A").await.unwrap();
        assert!(matches!(cached.reason, Reason::Cache { server, .. } if server == ip("127.0.0.53")));
        assert_eq!((cached.code.as_str(), cached.answers.len()), ("NOERROR", 2));
        assert_eq!((cached.container.as_str(), cached.name.as_str()), ("asker", "example.com."));
        assert_eq!((cached.answers[1].kind.as_str(), cached.answers[1].data.as_str()), ("A", "192.0.2.8"));
        use_resolvers(&server, &[]);
        let unanswered = server.query(&id, "other.com", "A").await.unwrap();
        assert_eq!((unanswered.code.as_str(), unanswered.reason), ("SERVFAIL", Reason::Unanswered));
        let mut mutations = town();
        mutations.push(put_network(Network { internal: true, ..network(1, "front") }));
        server.publish(&intent(mutations), None);
        assert_eq!(why(&server, "other.com", "A").await, Reason::Confined);
    });
}

#[test]
fn a_question_that_cannot_be_put_says_why() {
    on_host(|| async {
        let (server, _inside) = open(&[]).await;
        let id = sandbox(1, "asker").id;
        let error = |name: &str, kind: &str| {
            let (server, id, name, kind) = (server.clone(), id.clone(), name.to_owned(), kind.to_owned());
            async move { server.query(&id, &name, &kind).await.unwrap_err() }
        };
        assert_eq!(error("web", "X").await, QueryError::Kind("X".into()));
        let long = "x".repeat(64);
        assert_eq!(error(&long, "A").await, QueryError::Name(long.clone()));
        let stranger = server.query(&sandbox(9, "").id, "web", "A").await.unwrap_err();
        assert_eq!(stranger, QueryError::NoResolver);
    });
}

async fn next(lookups: &mut broadcast::Receiver<Arc<Lookup>>) -> Arc<Lookup> {
    tokio::time::timeout(PATIENCE, lookups.recv()).await.unwrap().unwrap()
}

#[test]
fn lookups_are_told_by_container_name_while_someone_listens() {
    on_host(|| async {
        upstream::start("127.0.0.53", None, helpful).await;
        let (server, inside) = open(&["127.0.0.53"]).await;
        inside.ask("web.", RecordType::A).await;
        let mut lookups = server.lookups();
        inside.ask("db.", RecordType::A).await;
        inside.ask_tcp("example.com.", RecordType::A).await;
        inside.ask("example.com.", RecordType::A).await;
        inside.ask_raw(vec![0, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
        let local = next(&mut lookups).await;
        assert_eq!(
            (local.container.as_str(), local.name.as_str(), local.kind.as_str()),
            ("asker", "db.", "A")
        );
        assert_eq!(local.answers[0].data, "10.1.0.3");
        let forwarded = next(&mut lookups).await;
        assert!(forwarded.over_tcp && forwarded.reason == Reason::Upstream { server: ip("127.0.0.53") });
        assert!(matches!(next(&mut lookups).await.reason, Reason::Cache { .. }));
        let malformed = next(&mut lookups).await;
        assert_eq!((malformed.code.as_str(), &malformed.reason), ("FORMERR", &Reason::Malformed));
        // What a person asks is not what the container asked.
        server.query(&sandbox(1, "asker").id, "web", "A").await.unwrap();
        inside.ask("web.", RecordType::MX).await;
        assert_eq!(next(&mut lookups).await.kind, "MX");
    });
}

#[test]
fn absence_and_failure_are_passed_on_and_failure_is_asked_again() {
    on_host(|| async {
        fn fail(query: &Message, _tcp: bool) -> Option<Vec<u8>> {
            let mut reply = upstream::reply(query);
            reply.metadata.response_code = ResponseCode::ServFail;
            encode(reply)
        }
        let asked = upstream::start("127.0.0.53", None, fail).await;
        let (_server, inside) = open(&["127.0.0.53"]).await;
        for _ in 0..2 {
            let reply = inside.ask("example.com.", RecordType::A).await;
            assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
        }
        // A lone server is asked twice a question.
        assert!(asked.lock().unwrap().len() >= 2);
    });
}
