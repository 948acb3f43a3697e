use hickory_proto::{op::ResponseCode, rr::RecordType};
use libnetwork_core::NameServer;
use libnetwork_model::{Change, HostFacts, Mutation, NamespaceKind, Sandbox};

use crate::{
    bed::{self, Namespace, on_host, server},
    town::*,
    upstream::{self, ip},
};

#[test]
fn a_name_answers_over_udp_and_tcp() {
    on_host(|| async {
        let (server, inside) = (server(), Namespace::new());
        server.publish(&intent(town()), None);
        server.open(&sandbox(1, "asker"), inside.path()).await.unwrap();
        for reply in
            [inside.ask("WeB.", RecordType::A).await, inside.ask_tcp("web.front.", RecordType::A).await]
        {
            assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
            assert!(reply.metadata.recursion_available);
            assert_eq!(data(&reply), ["10.1.0.2"]);
            assert!(reply.answers[0].ttl <= 10);
        }
        assert_eq!(data(&inside.ask("www.", RecordType::AAAA).await), ["fd00::2"]);
        let reverse = "2.0.1.10.in-addr.arpa.";
        assert_eq!(data(&inside.ask(reverse, RecordType::PTR).await), ["web.front."]);
    });
}

#[test]
fn a_known_name_has_no_data_for_a_type_that_it_lacks() {
    on_host(|| async {
        let (server, inside) = (server(), Namespace::new());
        server.publish(&intent(town()), None);
        server.open(&sandbox(1, "asker"), inside.path()).await.unwrap();
        for kind in [RecordType::AAAA, RecordType::MX, RecordType::SRV, RecordType::TXT, RecordType::PTR] {
            let reply = inside.ask("db.", kind).await;
            assert_eq!(reply.metadata.response_code, ResponseCode::NoError, "{kind}");
            assert!(reply.answers.is_empty() && reply.authorities.is_empty(), "{kind}");
        }
    });
}

#[test]
fn the_holders_of_an_alias_take_turns() {
    on_host(|| async {
        let (server, inside) = (server(), Namespace::new());
        server.publish(&intent(town()), None);
        server.open(&sandbox(1, "asker"), inside.path()).await.unwrap();
        let first = data(&inside.ask("pool.", RecordType::A).await);
        let second = data(&inside.ask("pool.", RecordType::A).await);
        assert_eq!(first.len(), 2);
        assert_eq!(second, [first[1].clone(), first[0].clone()]);
    });
}

#[test]
fn an_answer_is_cut_to_what_the_client_takes_and_whole_over_tcp() {
    on_host(|| async {
        let (server, inside) = (server(), Namespace::new());
        let mut mutations = town();
        for n in 10..210 {
            mutations.push(put_sandbox(sandbox(n, &format!("many{n}"))));
            mutations.push(put_endpoint(endpoint(1, n, &["many"])));
        }
        server.publish(&intent(mutations), None);
        server.open(&sandbox(1, "asker"), inside.path()).await.unwrap();

        let plain = inside.ask("many.", RecordType::A).await;
        assert!(plain.metadata.truncation && plain.answers.len() == 30, "{}", plain.answers.len());
        let larger = inside.ask_edns("many.", RecordType::A, 1232).await;
        assert!(larger.metadata.truncation && larger.answers.len() == 74, "{}", larger.answers.len());
        let edns = larger.edns.unwrap();
        assert!(edns.flags().dnssec_ok && edns.version() == 0);
        for whole in [
            inside.ask_edns("many.", RecordType::A, 4096).await,
            inside.ask_tcp("many.", RecordType::A).await,
        ] {
            assert!(!whole.metadata.truncation);
            assert_eq!(whole.answers.len(), 200);
        }
    });
}

#[test]
fn answers_follow_what_is_published() {
    on_host(|| async {
        let (server, inside) = (server(), Namespace::new());
        let before = intent(town());
        server.publish(&before, None);
        server.open(&sandbox(1, "asker"), inside.path()).await.unwrap();
        let change = Change(vec![
            put_sandbox(Sandbox { name: "renamed".into(), ..sandbox(2, "") }),
            put_sandbox(sandbox(4, "fresh")),
            put_endpoint(endpoint(1, 4, &[])),
            Mutation::RemoveEndpoint(endpoint(1, 3, &[]).id),
        ]);
        server.publish(&before.apply(&change), Some(&change));
        assert_eq!(data(&inside.ask("renamed.", RecordType::A).await), ["10.1.0.2"]);
        assert_eq!(data(&inside.ask("fresh.", RecordType::A).await), ["10.1.0.4"]);
        assert_eq!(data(&inside.ask("pool.", RecordType::A).await), ["10.1.0.2"]);
        // No upstream server: what is not ours fails at once.
        for gone in ["web.", "db."] {
            let reply = inside.ask(gone, RecordType::A).await;
            assert_eq!(reply.metadata.response_code, ResponseCode::ServFail, "{gone}");
        }
    });
}

#[test]
fn opening_is_idempotent_and_closing_releases_the_sockets() {
    on_host(|| async {
        let (server, inside) = (server(), Namespace::new());
        let asker = sandbox(1, "asker");
        server.publish(&intent(town()), None);
        server.open(&asker, inside.path()).await.unwrap();
        server.open(&asker, inside.path()).await.unwrap();
        let second = bed::server();
        second.open(&asker, inside.path()).await.expect_err("the address is in use");
        // A query under way must not keep the socket.
        let asked = upstream::start("127.0.0.53", None, |_, _| None).await;
        server.upstreams(&HostFacts { resolvers: vec![ip("127.0.0.53")], ..HostFacts::default() });
        let pending = inside.run(|| {
            let slow = bed::query("slow.example.", RecordType::A).to_vec().unwrap();
            let (socket, mut stream) = (bed::udp_client(), bed::tcp_client());
            socket.send(&slow).unwrap();
            bed::send_framed(&mut stream, &slow).unwrap();
            (socket, stream)
        });
        let _pending = pending.await;
        while asked.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        server.close(&asker.id).await;
        server.close(&asker.id).await;
        second.publish(&intent(town()), None);
        second.open(&asker, inside.path()).await.unwrap();
        assert_eq!(data(&inside.ask("web.", RecordType::A).await), ["10.1.0.2"]);
    });
}

#[test]
fn a_sandbox_made_anew_under_its_id_is_served_in_its_new_namespace() {
    on_host(|| async {
        let (server, old, new) = (server(), Namespace::new(), Namespace::new());
        let asker = sandbox(1, "asker");
        server.publish(&intent(town()), None);
        server.open(&asker, old.path()).await.unwrap();
        server.open(&asker, new.path()).await.unwrap();
        assert_eq!(data(&new.ask("web.", RecordType::A).await), ["10.1.0.2"]);
        bed::server().open(&asker, old.path()).await.expect("the old sockets are closed");
    });
}

#[test]
fn a_namespace_that_is_none_is_an_error_and_the_host_s_is_left_alone() {
    on_host(|| async {
        let server = server();
        let error = server.open(&sandbox(1, "asker"), "/nowhere".into()).await.unwrap_err();
        assert_eq!(error.sandbox, sandbox(1, "asker").id);
        server.open(&sandbox(1, "asker"), "/dev/null".into()).await.expect_err("no namespace");
        let on_host = Sandbox { namespace: NamespaceKind::Host, ..sandbox(2, "host") };
        server.open(&on_host, "/proc/thread-self/ns/net".into()).await.unwrap();
        std::net::UdpSocket::bind(bed::RESOLVER).expect("nothing of ours listens on the host");
    });
}

#[test]
fn the_end_of_the_resolver_closes_its_sockets() {
    on_host(|| async {
        let inside = Namespace::new();
        let shutdown = tokio_util::sync::CancellationToken::new();
        let settings =
            dns_server::Settings { port: bed::RESOLVER.1, shutdown: shutdown.clone(), keeper: None };
        let first = dns_server::DnsServer::new(settings);
        let asker = sandbox(1, "asker");
        first.open(&asker, inside.path()).await.unwrap();
        shutdown.cancel();
        first.close(&asker.id).await;
        server().open(&asker, inside.path()).await.unwrap();
    });
}
