//! Against hickory-proto, which reads and writes the same format without sharing a line.
#![allow(clippy::unwrap_used, clippy::panic)]

use hickory_proto::{
    op::{Edns as HickoryEdns, Message, Query as HickoryQuery, ResponseCode},
    rr::{DNSClass, Name, RData, RecordType},
};
use proptest::{collection::vec, prelude::*};

use super::*;

fn message() -> impl Strategy<Value = Message> {
    let label = "[a-zA-Z0-9_-]{1,63}";
    let kinds = prop::sample::select(vec![RecordType::A, RecordType::AAAA, RecordType::PTR, RecordType::TXT]);
    (any::<u16>(), vec(label, 0..4), kinds, any::<[bool; 4]>(), any::<u16>()).prop_map(
        |(id, labels, kind, [recursion, checking, edns, dnssec], size)| {
            let mut message = Message::query();
            message.metadata.id = id;
            message.metadata.recursion_desired = recursion;
            message.metadata.checking_disabled = checking;
            message.add_query(HickoryQuery::query(
                Name::from_labels(labels.iter().map(|l: &String| l.as_bytes())).unwrap(),
                kind,
            ));
            if edns {
                let mut edns = HickoryEdns::new();
                edns.set_max_payload(size).set_dnssec_ok(dnssec);
                message.set_edns(edns);
            }
            message
        },
    )
}

proptest! {
    #[test]
    fn a_query_is_read_as_hickory_wrote_it(message in message()) {
        let packet = message.to_vec().unwrap();
        let query = Query::parse(&packet).unwrap();
        let asked = &message.queries[0];
        let labels: Vec<_> = asked.name.iter().map(|l| String::from_utf8_lossy(l).to_lowercase()).collect();
        prop_assert_eq!(query.name().unwrap(), labels.join("."));
        prop_assert_eq!(query.kind, u16::from(asked.query_type));
        prop_assert!(query.is_internet());
        match (query.edns, message.edns) {
            (None, None) => prop_assert_eq!(query.udp_limit(), PLAIN_UDP),
            (Some(ours), Some(theirs)) => {
                prop_assert_eq!(ours.dnssec_ok, theirs.flags().dnssec_ok);
                prop_assert_eq!(query.udp_limit(), usize::from(theirs.max_payload()).max(PLAIN_UDP));
            }
            (ours, theirs) => prop_assert!(false, "{ours:?} {theirs:?}"),
        }
    }

    #[test]
    fn a_reply_is_read_by_hickory_as_it_was_meant(
        message in message(),
        addresses in vec(any::<IpAddr>(), 0..60),
        limit in PLAIN_UDP..LARGE_UDP,
    ) {
        let packet = message.to_vec().unwrap();
        let query = Query::parse(&packet).unwrap();
        let mut out = Vec::new();
        let mut reply = Reply::new(&query, rcode::NO_ERROR, limit, &mut out);
        let fitted = addresses.iter().take_while(|a| reply.address(**a, 5)).count();
        reply.finish(query.edns, 0);
        prop_assert!(out.len() <= limit);
        prop_assert!(answers(&out, &packet, query.question_end()));

        let read = Message::from_vec(&out).unwrap();
        prop_assert_eq!(read.metadata.id, message.metadata.id);
        prop_assert_eq!(read.metadata.recursion_desired, message.metadata.recursion_desired);
        prop_assert_eq!(read.metadata.checking_disabled, message.metadata.checking_disabled);
        prop_assert!(read.metadata.recursion_available);
        prop_assert_eq!(read.metadata.truncation, fitted < addresses.len());
        prop_assert_eq!(&read.queries, &message.queries);
        prop_assert_eq!(read.edns.is_some(), message.edns.is_some());
        prop_assert_eq!(read.answers.len(), fitted);
        for (record, address) in read.answers.iter().zip(&addresses) {
            prop_assert_eq!(&record.name, &message.queries[0].name);
            prop_assert_eq!((record.ttl, record.dns_class), (5, DNSClass::IN));
            let told = match &record.data {
                RData::A(a) => IpAddr::V4(a.0),
                RData::AAAA(a) => IpAddr::V6(a.0),
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(told, *address);
        }
    }

    #[test]
    fn what_is_taken_for_a_query_hickory_takes_for_one(packet in vec(any::<u8>(), 0..80)) {
        if Query::parse(&packet).is_ok() {
            let read = Message::from_vec(&packet);
            // Hickory also reads what is inside the records, which is passed on unread here.
            let records = packet[6..12].iter().any(|b| *b != 0);
            prop_assert!(records || read.is_ok(), "{read:?}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_answer_more_than_it_was_asked(
        mut packet in vec(any::<u8>(), 0..300),
        plausible in any::<bool>(),
        end in 0..300usize,
    ) {
        if plausible && packet.len() > HEADER {
            packet[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        }
        let mut out = Vec::new();
        match Query::parse(&packet) {
            Ok(query) => {
                Reply::new(&query, rcode::SERVER_FAILURE, PLAIN_UDP, &mut out).finish(query.edns, 0);
                prop_assert!(out.len() <= packet.len());
            }
            Err(Malformed::Refuse(code)) => {
                refuse(&packet, code, &mut out);
                prop_assert_eq!(out.len(), HEADER);
            }
            Err(Malformed::Ignore) => {}
        }
        // As a reply from upstream.
        let query = message_bytes();
        answers(&packet, &query, query.len());
        if packet.len() >= HEADER {
            truncate(&mut packet, end.max(HEADER), PLAIN_UDP / 4);
        }
    }
}

fn message_bytes() -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(HickoryQuery::query(Name::from_ascii("web.").unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

#[test]
fn a_pointer_reply_carries_the_name_and_one_that_cannot_be_written_does_not() {
    let packet = message_bytes();
    let query = Query::parse(&packet).unwrap();
    for (name, written) in [
        ("Web.back.end", true),
        ("a..b", false),
        (&"x".repeat(64), false),
        (&"abc.".repeat(70)[..279], false),
    ] {
        let mut out = Vec::new();
        let mut reply = Reply::new(&query, rcode::NO_ERROR, PLAIN_UDP, &mut out);
        assert_eq!(reply.pointer(name, 5), written, "{name}");
        reply.finish(query.edns, 0);
        let read = Message::from_vec(&out).unwrap();
        assert_eq!(read.metadata.response_code, ResponseCode::NoError);
        match read.answers.as_slice() {
            [] => assert!(!written),
            [record] => assert_eq!(record.data.to_string(), format!("{name}.")),
            more => panic!("{more:?}"),
        }
    }
}

#[test]
fn a_reply_to_another_question_or_id_is_no_answer() {
    let query = message_bytes();
    let reply = Message::from_vec(&query).unwrap().into_response().to_vec().unwrap();
    assert!(answers(&reply, &query, query.len()));
    let mut upper = reply.clone();
    upper[13..16].make_ascii_uppercase();
    assert!(answers(&upper, &query, query.len()));
    for at in [0, 1, 2, 14, query.len() - 1] {
        let mut other = reply.clone();
        other[at] ^= 0x80;
        assert!(!answers(&other, &query, query.len()), "{at}");
    }
}
