//! Bytes of strangers through everything that reads them: as a container's packet, and as an upstream server's reply.
//!
//! The corpus has a message for each thing that a reader of messages can get wrong. The tests put in each as it is and in a
//! fixed number of mutations, the same ones in every run; `dns/fuzz` goes on from there, led by coverage.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use dns_zone::Zone;
use hickory_proto::op::Message;
use libnetwork_model::SandboxId;

use crate::{
    cache::Cache,
    lookup::Lookup,
    message::{Query, Reply},
    respond::{Asker, Forward, Outcome, Route, Source, Transport, respond},
};

/// What happens to a packet, and what must hold of it.
pub fn read(packet: &[u8]) {
    let (zone, sandbox) = (Zone::default(), SandboxId::from_bytes([1; 32]));
    let mut out = Vec::new();
    for transport in [Transport::Udp, Transport::Tcp] {
        let asker = Asker { sandbox: &sandbox, transport, turn: 1, host: &[].into() };
        match respond(&zone, &asker, packet, &mut out) {
            Outcome::Ignore => {}
            Outcome::Forward(_) => unreachable!("this sandbox has no way out"),
            Outcome::Reply(_) => {
                let reply = Message::from_vec(&out).unwrap();
                assert_eq!(out[..2], packet[..2], "the id is the client's");
                assert!(reply.answers.is_empty());
                // A header, the question, an OPT record: no more than twice what was asked.
                assert!(out.len() <= packet.len() + 11);
            }
        }
    }
    if let Ok(query) = Query::parse(packet) {
        let name = query.name();
        assert!(name.is_none_or(|name| name.len() <= 255 && name == name.to_ascii_lowercase()));
    }
    said(packet);
    let _ = Lookup::new(&zone, &sandbox, Transport::Udp, Duration::ZERO, packet, Source::Malformed);
}

/// The packet as the reply to a question that it may or may not answer: kept and told again.
fn said(packet: &[u8]) {
    const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03wEb\x07example\x03com\0\0\x01\0\x01";
    let server = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let ask = Forward {
        query: Query::parse(QUESTION).unwrap(),
        packet: QUESTION.to_vec(),
        limit: 512,
        transport: Transport::Udp,
        route: Route { servers: [server].into(), inside: None },
    };
    let Some(reply) = Reply::to(&ask.query.question, 0x1234, packet) else { return };
    let (cache, now, mut out) = (Cache::default(), Instant::now(), Vec::new());
    cache.keep(&ask, &reply, server, now);
    if cache.answer(&ask, now + Duration::from_secs(1), &mut out).is_some() {
        assert!(out.len() <= usize::from(ask.limit));
        assert_eq!(out[..QUESTION.len()][12..], QUESTION[12..], "the question is the client's");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::read;

    const MUTATIONS: u64 = 1500;

    fn corpus() -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        let mut seeds: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect();
        seeds.sort();
        seeds
    }

    #[test]
    fn no_message_of_the_corpus_and_no_mutation_of_one_does_harm() {
        let seeds = corpus();
        assert!(seeds.len() > 30, "the corpus is there");
        for (index, (_, seed)) in seeds.iter().enumerate() {
            read(seed);
            let mut random = Random(0x9e37_79b9 + index as u64);
            for _ in 0..MUTATIONS {
                let other = &seeds[random.below(seeds.len())].1;
                read(&mutated(seed, other, &mut random));
            }
        }
    }

    /// xorshift64: the same in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % end.max(1) as u64) as usize
        }
    }

    /// A few changes: bytes that mean something to a reader, cuts, repetitions, and the end of another message.
    fn mutated(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
        const TELLING: [u8; 10] = [0, 1, 12, 41, 63, 64, 0x80, 0xc0, 0xfe, 0xff];
        let mut packet = seed.to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(packet.len());
            match random.below(6) {
                0 | 1 if !packet.is_empty() => packet[at] = TELLING[random.below(TELLING.len())],
                2 if !packet.is_empty() => packet[at] ^= 1 << random.below(8),
                3 => packet.truncate(at),
                4 => {
                    let piece = packet[at..].to_vec();
                    packet.extend(piece);
                }
                _ => {
                    packet.truncate(at);
                    packet.extend(&other[random.below(other.len())..]);
                }
            }
            packet.truncate(4096);
        }
        packet
    }
}
