#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::IpAddr;

use hickory_proto::op::Message;
use proptest::{collection::vec, prelude::*};

use super::*;

/// RFC 1035 4.1: a question for `Web.a`, type A, recursion desired, with an OPT record (RFC 6891) or none.
fn packet(edns: Option<[u8; 11]>) -> Vec<u8> {
    let header = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    let question = b"\x03Web\x01a\x00\x00\x01\x00\x01";
    [&header[..], question, edns.as_ref().map_or(&[], |e| &e[..])].concat()
}

const OPT: [u8; 11] = [0, 0, 41, 0x05, 0, 0, 0, 0x80, 0, 0, 0];

#[test]
fn a_query_says_its_name_in_lower_case_and_what_the_client_takes() {
    let plain = Query::parse(&packet(None)).unwrap();
    assert_eq!((plain.name().as_deref(), plain.udp_limit()), (Some("web.a"), PLAIN_UDP));
    let edns = Query::parse(&packet(Some(OPT))).unwrap();
    assert_eq!((edns.udp_limit(), edns.edns.unwrap().dnssec_ok), (0x500, true));
}

#[test]
fn what_no_resolver_sends_is_refused() {
    let whole = packet(Some(OPT));
    let changed = |at: usize, byte| {
        let mut packet = whole.clone();
        packet[at] = byte;
        packet
    };
    for (packet, what) in [
        (changed(5, 2), "two questions"),
        (changed(7, 1), "an answer"),
        (changed(9, 1), "an authority"),
        (changed(11, 200), "more records than there are"),
        (changed(23, 3), "an OPT record of another name than the root"),
        ([whole.as_slice(), &OPT].concat(), "bytes after the message"),
        (whole[..whole.len() - 1].to_vec(), "half a record"),
    ] {
        assert!(matches!(Query::parse(&packet), Err(Malformed::Refuse(_))), "{what}");
    }
    let mut two = [whole.as_slice(), &OPT].concat();
    two[11] = 2;
    assert!(matches!(Query::parse(&two), Err(Malformed::Refuse(_))), "two OPT records");
}

#[test]
fn a_reply_keeps_the_case_of_the_question_and_says_when_records_were_left_out() {
    let addresses = |count: u8| (0..count).map(|n| RData::from(IpAddr::from([10, 0, 0, n]))).collect();
    for edns in [None, Some(OPT)] {
        let query = Query::parse(&packet(edns)).unwrap();
        for (count, truncated) in [(3, false), (60, true)] {
            let mut out = vec![9; 3];
            query.reply(ResponseCode::NoError, addresses(count), 5, PLAIN_UDP, &mut out).unwrap();
            assert!(out.len() <= PLAIN_UDP.into());
            let read = Message::from_vec(&out).unwrap();
            assert_eq!((read.metadata.id, read.metadata.truncation), (0x1234, truncated));
            assert!(read.metadata.recursion_available && read.metadata.recursion_desired);
            assert_eq!(read.queries[0].name.to_ascii(), "Web.a.");
            assert_eq!(read.edns.is_some(), edns.is_some());
            assert_eq!(read.answers.len() < count.into(), truncated);
            assert!(read.answers.iter().all(|r| r.ttl == 5 && r.name == query.question.name));
            assert_eq!(Reply::to(&query.question, 0x1234, &out).unwrap().metadata, read.metadata);
        }
    }
}

#[test]
fn a_reply_to_another_question_or_id_is_no_answer() {
    let query = Query::parse(&packet(None)).unwrap();
    let mut reply = Vec::new();
    query.reply(ResponseCode::NoError, vec![], 5, PLAIN_UDP, &mut reply).unwrap();
    let mut upper = reply.clone();
    upper[13..16].make_ascii_uppercase();
    assert!(Reply::to(&query.question, 0x1234, &upper).is_some());
    for at in [0, 1, 2, 14, reply.len() - 1] {
        let mut other = reply.clone();
        other[at] ^= 0x80;
        assert!(Reply::to(&query.question, 0x1234, &other).is_none(), "{at}");
    }
    // A server that refuses may leave the question out; one that answers may not.
    let mut refused = [&reply[..4], &[0; 8]].concat();
    assert!(Reply::to(&query.question, 0x1234, &refused).is_none());
    refused[3] |= 5;
    assert!(Reply::to(&query.question, 0x1234, &refused).is_some());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        mut packet in vec(any::<u8>(), 0..300),
        plausible in any::<bool>(),
    ) {
        if plausible && packet.len() > 12 {
            packet[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        }
        let mut out = Vec::new();
        match Query::parse(&packet) {
            Ok(query) => {
                query.reply(ResponseCode::ServFail, vec![], 0, PLAIN_UDP, &mut out).unwrap();
                prop_assert!(Message::from_vec(&out).is_ok());
            }
            Err(Malformed::Refuse(metadata)) => {
                header_alone(metadata, &mut out).unwrap();
                prop_assert_eq!(out.len(), 12);
            }
            Err(Malformed::Ignore) => {}
        }
        let known = Query::parse(&self::packet(None)).unwrap();
        let as_reply = Reply { bytes: packet, metadata: known.metadata };
        let _ = Reply::to(&known.question, 0x1234, &as_reply.bytes);
        if let Some(lifetime) = as_reply.lifetime(&known) {
            as_reply.aged(&lifetime, 1, (&known, &self::packet(None)), &mut out);
        }
    }
}
