#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::{
    op::{Edns, Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, SOA, opt::EdnsOption},
    },
};
use libnetwork_model::SandboxId;

use super::*;
use crate::{message::Query, respond::Transport};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53));

fn asked(name: &str) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(op::Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message
}

fn forward(message: &Message, inside: Option<u8>) -> Forward {
    let packet = message.to_vec().unwrap();
    Forward {
        query: Query::parse(&packet).unwrap(),
        packet,
        limit: 512,
        transport: Transport::Udp,
        route: Route { servers: [SERVER].into(), inside: inside.map(|n| SandboxId::from_bytes([n; 32])) },
    }
}

fn address(name: &str, ttl: u32) -> Record {
    Record::from_rdata(Name::from_ascii(name).unwrap(), ttl, RData::A(A::new(192, 0, 2, 7)))
}

fn authority(ttl: u32, minimum: u32) -> Record {
    let name = |text| Name::from_ascii(text).unwrap();
    Record::from_rdata(
        name("com."),
        ttl,
        RData::SOA(SOA::new(name("a.com."), name("b.com."), 1, 2, 3, 4, minimum)),
    )
}

fn reply(ask: &Forward, change: impl FnOnce(&mut Message)) -> Reply {
    let mut message = Message::from_vec(&ask.packet).unwrap().into_response();
    change(&mut message);
    Reply::to(&ask.query.question, ask.query.metadata.id, &message.to_vec().unwrap()).unwrap()
}

fn read(cache: &Cache, ask: &Forward) -> Option<Message> {
    read_at(cache, ask, Instant::now())
}

fn read_at(cache: &Cache, ask: &Forward, now: Instant) -> Option<Message> {
    let mut out = Vec::new();
    cache.answer(ask, now, &mut out).map(|_| Message::from_vec(&out).unwrap())
}

fn bytes(cache: &Cache) -> usize {
    let generations = cache.generations.lock().unwrap();
    generations.young.values().chain(generations.old.values()).map(Entry::bytes).sum()
}

#[test]
fn an_answer_ages_and_ends_with_its_shortest_lifetime() {
    let cache = Cache::default();
    let first = forward(&asked("example.com."), None);
    let said = reply(&first, |m| {
        m.add_answer(address("example.com.", 300)).add_additional(address("ns.example.com.", 60));
    });
    let now = Instant::now();
    let after = |seconds| now + Duration::from_secs(seconds);
    cache.keep(&first, &said, SERVER, now);
    let mut later = asked("EXAMPLE.com.");
    later.metadata.id = 7;
    let told = read_at(&cache, &forward(&later, None), after(59)).unwrap();
    assert_eq!((told.metadata.id, told.queries[0].name.to_ascii().as_str()), (7, "EXAMPLE.com."));
    assert_eq!((told.answers[0].ttl, told.additionals[0].ttl), (241, 1));
    let kept = cache.answer(&first, after(59), &mut Vec::new()).unwrap();
    assert_eq!((kept.server, kept.age.as_secs()), (SERVER, 59));
    assert!(read_at(&cache, &first, after(60)).is_none());
}

#[test]
fn absence_lasts_as_long_as_its_authority_says() {
    let (cache, now) = (Cache::default(), Instant::now());
    for (name, code) in [("a.com.", ResponseCode::NXDomain), ("b.com.", ResponseCode::NoError)] {
        let ask = forward(&asked(name), None);
        let absent = |m: &mut Message| m.metadata.response_code = code;
        cache.keep(&ask, &reply(&ask, absent), SERVER, now);
        assert!(read_at(&cache, &ask, now).is_none(), "without an authority");
        let said = reply(&ask, |m| {
            absent(m);
            m.add_authority(authority(900, 30));
        });
        cache.keep(&ask, &said, SERVER, now);
        assert_eq!(read_at(&cache, &ask, now).unwrap().metadata.response_code, code);
    }
    let over = now + Duration::from_secs(30);
    assert!(read_at(&cache, &forward(&asked("a.com."), None), over).is_none());
}

#[test]
fn what_is_for_one_client_or_no_answer_is_not_kept() {
    let cache = Cache::default();
    let ask = forward(&asked("example.com."), None);
    let plain = |m: &mut Message| {
        m.add_answer(address("example.com.", 300));
    };
    let refusals: [fn(&mut Message); 4] = [
        |m| m.metadata.response_code = ResponseCode::ServFail,
        |m| m.metadata.truncation = true,
        |m| m.answers[0].ttl = 0,
        |m| m.answers[0].ttl = u32::MAX,
    ];
    for change in refusals {
        let said = reply(&ask, |m| {
            plain(m);
            change(m);
        });
        cache.keep(&ask, &said, SERVER, Instant::now());
        assert!(read(&cache, &ask).is_none());
    }
    let mut own = asked("example.com.");
    let mut edns = Edns::new();
    edns.options_mut().insert(EdnsOption::Unknown(10, vec![1; 8]));
    own.set_edns(edns);
    let own = forward(&own, None);
    cache.keep(&own, &reply(&own, plain), SERVER, Instant::now());
    assert!(read(&cache, &own).is_none(), "a client's cookie");
}

#[test]
fn other_servers_sandboxes_and_flags_are_other_answers() {
    let cache = Cache::default();
    let ask = forward(&asked("example.com."), Some(1));
    let said = reply(&ask, |m| {
        m.add_answer(address("example.com.", 300));
    });
    cache.keep(&ask, &said, SERVER, Instant::now());
    assert!(read(&cache, &ask).is_some());
    for inside in [None, Some(2)] {
        assert!(read(&cache, &forward(&asked("example.com."), inside)).is_none(), "{inside:?}");
    }
    let mut elsewhere = forward(&asked("example.com."), Some(1));
    elsewhere.route.servers = [SERVER, SERVER].into();
    assert!(read(&cache, &elsewhere).is_none(), "other servers");
    for dnssec in [false, true] {
        let mut message = asked("example.com.");
        let mut edns = Edns::new();
        edns.set_dnssec_ok(dnssec);
        message.set_edns(edns);
        assert!(read(&cache, &forward(&message, Some(1))).is_none(), "with EDNS, DNSSEC {dnssec}");
    }
    let mut checking = asked("example.com.");
    checking.metadata.checking_disabled = true;
    assert!(read(&cache, &forward(&checking, Some(1))).is_none(), "checking disabled");
}

#[test]
fn a_flood_of_names_takes_bounded_memory_and_leaves_what_is_in_use() {
    let (cache, now) = (Cache::default(), Instant::now());
    let used = forward(&asked("used.example."), None);
    let many = |m: &mut Message| {
        let name = m.queries[0].name.to_ascii();
        for _ in 0..20 {
            m.add_answer(address(&name, 300));
        }
    };
    cache.keep(&used, &reply(&used, many), SERVER, now);
    for n in 0..20_000 {
        let ask = forward(&asked(&format!("n{n}.example.")), None);
        cache.keep(&ask, &reply(&ask, many), SERVER, now);
        if n % 500 == 0 {
            assert!(read_at(&cache, &used, now).is_some(), "{n}");
            assert!(bytes(&cache) <= 2 * GENERATION);
        }
    }
    assert!(read_at(&cache, &forward(&asked("n0.example."), None), now).is_none());
    assert!(bytes(&cache) > GENERATION / 2);
}
