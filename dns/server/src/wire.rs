//! The wire format (RFC 1035, EDNS by RFC 6891) as far as a resolver needs it that answers few types and passes the
//! rest on untouched: a query's header, question and OPT record, and replies that repeat them.
//!
//! Written by hand rather than with hickory-proto because it is the cost of a query: nothing here allocates but the
//! reply's own buffer, and no compression pointer is ever followed, so no input makes it loop. The tests hold it
//! against hickory-proto.

use std::net::IpAddr;

#[cfg(test)]
mod tests;

pub(crate) const HEADER: usize = 12;
/// What a client that advertises nothing takes over UDP (RFC 1035 4.2.1).
pub(crate) const PLAIN_UDP: usize = 512;
/// The most that we send or take over UDP, and advertise. The path is the sandbox's loopback: nothing fragments there.
pub(crate) const LARGE_UDP: usize = 4096;

pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const ANY: u16 = 255;
}

pub(crate) mod rcode {
    pub(crate) const NO_ERROR: u8 = 0;
    pub(crate) const FORMAT_ERROR: u8 = 1;
    pub(crate) const SERVER_FAILURE: u8 = 2;
    pub(crate) const NOT_IMPLEMENTED: u8 = 4;
    pub(crate) const REFUSED: u8 = 5;
}

const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const CHECKING_DISABLED: u8 = 0x10;
const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;
/// The question's name, at the end of the header: what an answer's owner points to.
const POINTER_TO_QUESTION: [u8; 2] = [0xc0, HEADER as u8];
/// An OPT record without options.
const OPT_LENGTH: usize = 11;

/// A well-formed standard query with one question.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    packet: &'a [u8],
    /// Where the question ends.
    question_end: usize,
    name: [u8; 255],
    name_length: Option<u8>,
    pub(crate) kind: u16,
    class: u16,
    pub(crate) edns: Option<Edns>,
}

/// What the client's OPT record says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edns {
    /// The UDP payload in bytes that the client takes.
    pub(crate) size: u16,
    pub(crate) version: u8,
    pub(crate) dnssec_ok: bool,
}

/// Why a packet is no [`Query`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Too short for a header, or itself a reply: answering could start a quarrel between two servers.
    Ignore,
    /// Answer the header with this code.
    Refuse(u8),
}

impl<'a> Query<'a> {
    pub(crate) fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        let Some(header) = packet.first_chunk::<HEADER>() else { return Err(Malformed::Ignore) };
        if header[2] & RESPONSE != 0 {
            return Err(Malformed::Ignore);
        }
        if header[2] & 0x78 != 0 {
            return Err(Malformed::Refuse(rcode::NOT_IMPLEMENTED));
        }
        Self::parse_body(packet, header).ok_or(Malformed::Refuse(rcode::FORMAT_ERROR))
    }

    fn parse_body(packet: &'a [u8], header: &[u8; HEADER]) -> Option<Self> {
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let [questions, answers, authorities, additional] = [4, 6, 8, 10].map(count);
        if questions != 1 {
            return None;
        }
        let mut name = [0; 255];
        let (after_name, name_length) = read_question_name(packet, &mut name)?;
        let kind = u16_at(packet, after_name)?;
        let class = u16_at(packet, after_name + 2)?;
        let question_end = after_name + 4;

        let mut edns = None;
        let mut at = question_end;
        // Each record takes at least 11 bytes or ends the loop: the packet bounds it, not the counts.
        for _ in 0..u32::from(answers) + u32::from(authorities) + u32::from(additional) {
            let fixed = skip_name(packet, at)?;
            let length = usize::from(u16_at(packet, fixed + 8)?);
            if u16_at(packet, fixed)? == kind::OPT {
                if edns.is_some() || fixed != at + 1 {
                    return None;
                }
                edns = Some(Edns {
                    size: u16_at(packet, fixed + 2)?,
                    version: *packet.get(fixed + 5)?,
                    dnssec_ok: packet.get(fixed + 6)? & 0x80 != 0,
                });
            }
            at = fixed + 10 + length;
            if at > packet.len() {
                return None;
            }
        }
        // Bytes after the message would be passed on to upstream servers unread.
        (at == packet.len()).then_some(Self { packet, question_end, name, name_length, kind, class, edns })
    }

    /// The name asked for, dotted, in lower case, without the final dot. None for one that no container can have:
    /// with a byte that is not printable ASCII, or a dot inside a label.
    pub(crate) fn name(&self) -> Option<&str> {
        std::str::from_utf8(self.name.get(..usize::from(self.name_length?))?).ok()
    }

    pub(crate) fn is_internet(&self) -> bool {
        matches!(self.class, CLASS_IN | CLASS_ANY)
    }

    /// The bytes that a reply over UDP may have.
    pub(crate) fn udp_limit(&self) -> usize {
        self.edns.map_or(PLAIN_UDP, |e| usize::from(e.size).max(PLAIN_UDP))
    }

    pub(crate) fn question_end(&self) -> usize {
        self.question_end
    }
}

/// A reply to one query, written into a buffer that is used again for the next.
pub(crate) struct Reply<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
    answers: u16,
}

impl<'a> Reply<'a> {
    /// A reply without records; `limit` is the bytes that it may have in all.
    pub(crate) fn new(query: &Query<'_>, code: u8, limit: usize, out: &'a mut Vec<u8>) -> Self {
        out.clear();
        out.extend_from_slice(&query.packet[..query.question_end]);
        reply_header(out, code, 1);
        if query.edns.is_some() {
            // Set last, counted at once: records may fill what is left.
            out[11] = 1;
        }
        let reserved = if query.edns.is_some() { OPT_LENGTH } else { 0 };
        Self { out, limit: limit.saturating_sub(reserved), answers: 0 }
    }

    /// Adds an address of the name asked for; false when it does not fit and the reply is marked truncated instead.
    pub(crate) fn address(&mut self, address: IpAddr, ttl: u32) -> bool {
        match address {
            IpAddr::V4(v4) => self.record(kind::A, ttl, &v4.octets()),
            IpAddr::V6(v6) => self.record(kind::AAAA, ttl, &v6.octets()),
        }
    }

    /// Adds the name of the address asked for; false when it does not fit or cannot be written as a name.
    pub(crate) fn pointer(&mut self, name: &str, ttl: u32) -> bool {
        let mut data = Vec::with_capacity(name.len() + 2);
        for label in name.split('.') {
            match u8::try_from(label.len()) {
                Ok(length @ 1..=63) => data.push(length),
                _ => return false,
            }
            data.extend_from_slice(label.as_bytes());
        }
        data.push(0);
        data.len() <= 255 && self.record(kind::PTR, ttl, &data)
    }

    fn record(&mut self, kind: u16, ttl: u32, data: &[u8]) -> bool {
        if self.out.len() + 12 + data.len() > self.limit {
            self.out[2] |= TRUNCATED;
            return false;
        }
        self.out.extend_from_slice(&POINTER_TO_QUESTION);
        self.out.extend_from_slice(&kind.to_be_bytes());
        self.out.extend_from_slice(&CLASS_IN.to_be_bytes());
        self.out.extend_from_slice(&ttl.to_be_bytes());
        // A name takes 255 bytes, an address 16.
        self.out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        self.out.extend_from_slice(data);
        self.answers += 1;
        true
    }

    /// Writes what the header and the client's EDNS still lack. `extended` is the upper part of the code (RFC 6891).
    pub(crate) fn finish(self, edns: Option<Edns>, extended: u8) {
        self.out[6..8].copy_from_slice(&self.answers.to_be_bytes());
        if let Some(edns) = edns {
            let size = (LARGE_UDP as u16).to_be_bytes();
            let dnssec_ok = if edns.dnssec_ok { 0x80 } else { 0 };
            self.out.extend_from_slice(&[
                0,
                0,
                kind::OPT as u8,
                size[0],
                size[1],
                extended,
                0,
                dnssec_ok,
                0,
                0,
                0,
            ]);
        }
    }
}

/// A reply of a header alone, to a packet of at least [`HEADER`] bytes: never longer than what it answers.
pub(crate) fn refuse(packet: &[u8], code: u8, out: &mut Vec<u8>) {
    out.clear();
    out.extend(packet.iter().take(HEADER));
    out.resize(HEADER, 0);
    reply_header(out, code, 0);
}

/// Turns the header of a query into that of a reply with this many questions and nothing else.
fn reply_header(out: &mut [u8], code: u8, questions: u8) {
    out[2] = (out[2] & (0x78 | RECURSION_DESIRED)) | RESPONSE;
    out[3] = (out[3] & CHECKING_DISABLED) | RECURSION_AVAILABLE | (code & 0x0f);
    out[4..12].copy_from_slice(&[0, questions, 0, 0, 0, 0, 0, 0]);
}

pub(crate) fn id(packet: &[u8]) -> Option<u16> {
    u16_at(packet, 0)
}

pub(crate) fn set_id(packet: &mut [u8], id: u16) {
    if let Some(first) = packet.first_chunk_mut::<2>() {
        *first = id.to_be_bytes();
    }
}

pub(crate) fn is_truncated(reply: &[u8]) -> bool {
    reply.get(2).is_some_and(|flags| flags & TRUNCATED != 0)
}

pub(crate) fn code(reply: &[u8]) -> u8 {
    reply.get(3).map_or(rcode::SERVER_FAILURE, |flags| flags & 0x0f)
}

/// Whether `reply` answers `query`, whose question ends at `question_end`: same id, same question, whatever the case.
/// A server that refuses what it cannot read may leave the question out.
pub(crate) fn answers(reply: &[u8], query: &[u8], question_end: usize) -> bool {
    let Some(header) = reply.first_chunk::<HEADER>() else { return false };
    if header[2] & RESPONSE == 0 || header[..2] != query[..2] {
        return false;
    }
    if header[4..6] == [0, 0] {
        return code(reply) != rcode::NO_ERROR;
    }
    let question = reply.get(HEADER..question_end).unwrap_or_default();
    question.eq_ignore_ascii_case(&query[HEADER..question_end])
}

/// Cuts a reply down to its question, marked truncated, when it is longer than `limit`.
pub(crate) fn truncate(reply: &mut Vec<u8>, question_end: usize, limit: usize) {
    if reply.len() <= limit {
        return;
    }
    let questions = u8::from(reply.len() >= question_end && reply[4..6] == [0, 1]);
    reply.truncate(if questions == 1 { question_end } else { HEADER });
    reply[2] |= TRUNCATED;
    reply[4..12].copy_from_slice(&[0, questions, 0, 0, 0, 0, 0, 0]);
}

/// Reads the question's name, dotted and in lower case, into `out`; returns where it ends and its length, or none for
/// a name that is not text. A pointer has nothing to point to in a question, so it is malformed.
fn read_question_name(packet: &[u8], out: &mut [u8; 255]) -> Option<(usize, Option<u8>)> {
    let mut at = HEADER;
    let mut length = 0;
    let mut is_text = true;
    loop {
        let label_length = usize::from(*packet.get(at)?);
        at += 1;
        if label_length == 0 {
            break;
        }
        // The final zero counts towards the 255 bytes of RFC 1035 3.1.
        if label_length > 63 || at + label_length - HEADER >= 255 {
            return None;
        }
        let label = packet.get(at..at + label_length)?;
        at += label_length;
        if length > 0 {
            out[length] = b'.';
            length += 1;
        }
        for &byte in label {
            is_text &= byte.is_ascii_graphic() && byte != b'.';
            out[length] = byte.to_ascii_lowercase();
            length += 1;
        }
    }
    Some((at, is_text.then_some(length as u8)))
}

/// Where the name at `at` ends. A pointer ends it; whether it points anywhere is not of interest here.
fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*packet.get(at)?) {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + length,
            0xc0..=0xff => return Some(at + 2),
            _ => return None,
        }
    }
}

fn u16_at(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]))
}
