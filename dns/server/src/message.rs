//! What is read out of DNS messages and written into them. The wire format (RFC 1035, EDNS by RFC 6891) is
//! hickory-proto's: names, numbers, records and their bounds are read and written by it.
//!
//! Not its `Message`: a reply from upstream is passed on byte for byte, and of its records nothing is wanted but their
//! lifetimes; of a query nothing but its question and what its OPT record says. Reading no more is what makes a query
//! cheap, and leaves nothing of a stranger's record to interpret.

use hickory_proto::{
    ProtoError,
    op::{self, Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType},
    serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder, DecodeError, EncodedSize},
};

/// What a client that advertises nothing takes over UDP (RFC 1035 4.2.1).
pub(crate) const PLAIN_UDP: u16 = 512;
/// The most that we send or take over UDP, and advertise. The path is the sandbox's loopback: nothing fragments there.
pub(crate) const LARGE_UDP: u16 = 4096;
/// A root name, type, class, TTL and length, without options.
const OPT_LENGTH: u16 = 11;
/// An OPT record, and a signature.
const ADDITIONAL: u16 = 2;

/// A standard query with one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) metadata: Metadata,
    pub(crate) question: op::Query,
    /// Where the question ends in the packet; it begins behind the header, and no pointer is in it.
    pub(crate) question_end: usize,
    pub(crate) edns: Option<ClientEdns>,
}

/// What the client's OPT record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientEdns {
    /// The UDP payload in bytes that the client takes.
    pub(crate) size: u16,
    pub(crate) version: u8,
    pub(crate) dnssec_ok: bool,
    /// Cookies, subnets and the like, which make an answer this client's own.
    pub(crate) has_options: bool,
}

/// Why a packet is no [`Query`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Malformed {
    /// Too short for a header, or itself a reply: answering could start a quarrel between two servers.
    Ignore,
    /// Answer with this header alone.
    Refuse(Metadata),
}

impl Query {
    pub(crate) fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        let mut decoder = BinDecoder::new(packet);
        let Header { metadata, counts } = Header::read(&mut decoder).map_err(|_| Malformed::Ignore)?;
        if metadata.message_type == MessageType::Response {
            return Err(Malformed::Ignore);
        }
        let refuse = |code| Malformed::Refuse(reply_to(&metadata, code));
        if metadata.op_code != OpCode::Query {
            return Err(refuse(ResponseCode::NotImp));
        }
        let one = (counts.queries, counts.answers, counts.authorities) == (1, 0, 0);
        if !one || counts.additionals > ADDITIONAL {
            return Err(refuse(ResponseCode::FormErr));
        }
        match Self::body(&mut decoder, metadata, counts.additionals) {
            // Bytes after the message would be passed on to upstream servers unread.
            Ok(Some(query)) if decoder.is_empty() => Ok(query),
            _ => Err(refuse(ResponseCode::FormErr)),
        }
    }

    /// None: more than one OPT record, or one that is not the root's, or a question with a pointer, which has nothing to
    /// point to.
    fn body(
        decoder: &mut BinDecoder<'_>,
        metadata: Metadata,
        additional: u16,
    ) -> Result<Option<Self>, DecodeError> {
        let question = op::Query::read(decoder)?;
        let question_end = decoder.index();
        if question_end != Header::LEN + written_length(&question.name) + 4 {
            return Ok(None);
        }
        let mut edns = None;
        for _ in 0..additional {
            let record = RawRecord::read(decoder)?;
            if record.kind != RecordType::OPT {
                continue;
            }
            let [_, version, flags, _] = record.ttl.to_be_bytes();
            let found = ClientEdns {
                size: record.class,
                version,
                dnssec_ok: flags & 0x80 != 0,
                has_options: !record.data.is_empty(),
            };
            if !record.name.is_root() || edns.replace(found).is_some() {
                return Ok(None);
            }
        }
        Ok(Some(Self { metadata, question, question_end, edns }))
    }

    /// The name asked for, dotted, in lower case, without the final dot. None for one that no container can have:
    /// with a byte that is not printable ASCII, or a dot inside a label.
    pub(crate) fn name(&self) -> Option<String> {
        let mut text = String::with_capacity(self.question.name.len());
        for label in self.question.name.iter() {
            if !text.is_empty() {
                text.push('.');
            }
            for &byte in label {
                if !byte.is_ascii_graphic() || byte == b'.' {
                    return None;
                }
                text.push(byte.to_ascii_lowercase().into());
            }
        }
        Some(text)
    }

    pub(crate) fn is_internet(&self) -> bool {
        matches!(self.question.query_class, DNSClass::IN | DNSClass::ANY)
    }

    /// The bytes that a reply over UDP may have.
    pub(crate) fn udp_limit(&self) -> u16 {
        self.edns.map_or(PLAIN_UDP, |e| e.size.max(PLAIN_UDP))
    }

    /// Writes the reply with these records of the name asked for. What does not fit into `limit` bytes is left out and
    /// the reply marked.
    pub(crate) fn reply(
        &self,
        code: ResponseCode,
        records: Vec<RData>,
        ttl: u32,
        limit: u16,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtoError> {
        let owner = &self.question.name;
        let records: Vec<Record> =
            records.into_iter().map(|data| Record::from_rdata(owner.clone(), ttl, data)).collect();
        self.write(reply_to(&self.metadata, code), &records, limit, out)
    }

    /// Writes the reply with the header of an upstream server's and none of its records, for they do not fit.
    pub(crate) fn truncated(
        &self,
        upstream: Metadata,
        limit: u16,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtoError> {
        let mut metadata = upstream;
        metadata.id = self.metadata.id;
        metadata.truncation = true;
        self.write(metadata, &[], limit, out)
    }

    fn write(
        &self,
        mut metadata: Metadata,
        records: &[Record],
        limit: u16,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtoError> {
        out.clear();
        let mut encoder = BinEncoder::new(out);
        let header = encoder.place::<Header>()?;
        self.question.emit(&mut encoder)?;
        // Written last, counted at once: records may fill what is left.
        encoder.set_max_size(limit.saturating_sub(if self.edns.is_some() { OPT_LENGTH } else { 0 }));
        let answers = match encoder.emit_iter(&mut records.iter()) {
            Err(ProtoError::NotAllRecordsWritten { count, .. }) => {
                metadata.truncation = true;
                encoder.trim();
                count
            }
            written => written?,
        };
        encoder.set_max_size(limit);
        if let Some(client) = self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(LARGE_UDP).set_dnssec_ok(client.dnssec_ok);
            edns.set_rcode_high(metadata.response_code.high());
            edns.emit(&mut encoder)?;
        }
        let counts = HeaderCounts {
            queries: 1,
            // Each takes more than a byte of the 65,535.
            answers: answers as u16,
            authorities: 0,
            additionals: u16::from(self.edns.is_some()),
        };
        header.replace(&mut encoder, Header { metadata, counts })
    }
}

/// The header of a reply with nothing else: never longer than what it answers.
pub(crate) fn header_alone(metadata: Metadata, out: &mut Vec<u8>) -> Result<(), ProtoError> {
    out.clear();
    Header { metadata, counts: HeaderCounts::default() }.emit(&mut BinEncoder::new(out))
}

fn reply_to(query: &Metadata, code: ResponseCode) -> Metadata {
    let mut metadata = Metadata::response_from_request(query);
    metadata.recursion_available = true;
    metadata.response_code = code;
    metadata
}

/// Puts an id in front of a message that has a header.
pub(crate) fn set_id(packet: &mut [u8], id: u16) {
    if let Some(first) = packet.first_chunk_mut() {
        *first = id.to_be_bytes();
    }
}

/// The bytes of a name without pointers.
fn written_length(name: &Name) -> usize {
    if name.is_root() { 1 } else { name.len() + 1 }
}

/// What an upstream server said.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) metadata: Metadata,
}

/// How long a reply may be kept, and where it says so.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub(crate) seconds: u32,
    /// Where its records have their TTLs.
    pub(crate) at: Vec<u16>,
}

/// The longest that anything is kept: a day, and three hours for what does not exist (RFC 2308 5).
const LONGEST_KEPT: u32 = 24 * 60 * 60;
const LONGEST_ABSENT: u32 = 3 * 60 * 60;

impl Reply {
    /// None: it does not answer this question under this id. A server that refuses what it cannot read may leave the
    /// question out.
    pub(crate) fn to(question: &op::Query, id: u16, bytes: &[u8]) -> Option<Self> {
        let mut decoder = BinDecoder::new(bytes);
        let Header { metadata, counts } = Header::read(&mut decoder).ok()?;
        if metadata.message_type != MessageType::Response || metadata.id != id {
            return None;
        }
        let same = match counts.queries {
            0 => metadata.response_code != ResponseCode::NoError,
            _ => op::Query::read(&mut decoder).ok()? == *question,
        };
        same.then(|| Self { bytes: bytes.to_vec(), metadata })
    }

    /// None: it may not be kept, or is none that can be read.
    pub(crate) fn lifetime(&self, query: &Query) -> Option<Lifetime> {
        let mut decoder = BinDecoder::new(&self.bytes);
        let Header { metadata, counts } = Header::read(&mut decoder).ok()?;
        let absent = match metadata.response_code {
            ResponseCode::NoError => counts.answers == 0,
            ResponseCode::NXDomain => true,
            _ => return None,
        };
        if metadata.truncation || counts.queries != 1 {
            return None;
        }
        op::Query::read(&mut decoder).ok()?;
        // Then the question can be given the case that the next client writes it in.
        if decoder.index() != query.question_end {
            return None;
        }
        let mut lifetime = Lifetime { seconds: LONGEST_KEPT, at: Vec::new() };
        let mut start_of_authority = None;
        let records = [counts.answers, counts.authorities, counts.additionals].map(u32::from);
        for _ in 0..records.iter().sum::<u32>() {
            let record = RawRecord::read(&mut decoder).ok()?;
            if record.kind == RecordType::OPT {
                continue;
            }
            // RFC 2181 8: one with the highest bit set is as good as zero.
            lifetime.seconds = lifetime.seconds.min(if record.ttl >> 31 == 0 { record.ttl } else { 0 });
            lifetime.at.push(u16::try_from(record.ttl_at).ok()?);
            if record.kind == RecordType::SOA {
                // MINIMUM is its last field (RFC 1035 3.3.13).
                start_of_authority = record.data.last_chunk().map(|minimum| u32::from_be_bytes(*minimum));
            }
        }
        match start_of_authority {
            Some(minimum) => lifetime.seconds = lifetime.seconds.min(minimum).min(LONGEST_ABSENT),
            // Absence that does not say how long it lasts (RFC 2308 5).
            None if absent => return None,
            None => {}
        }
        (lifetime.seconds > 0).then_some(lifetime)
    }

    /// Writes it as the answer to another packet with the same question, so many seconds older.
    pub(crate) fn aged(
        &self,
        lifetime: &Lifetime,
        seconds: u32,
        (query, packet): (&Query, &[u8]),
        out: &mut Vec<u8>,
    ) {
        out.clear();
        out.extend_from_slice(&self.bytes);
        for &at in &lifetime.at {
            if let Some(ttl) = out.get_mut(at.into()..).and_then(<[u8]>::first_chunk_mut) {
                *ttl = u32::from_be_bytes(*ttl).saturating_sub(seconds).to_be_bytes();
            }
        }
        set_id(out, query.metadata.id);
        let question = Header::LEN..query.question_end;
        if let (Some(to), Some(from)) = (out.get_mut(question.clone()), packet.get(question)) {
            to.copy_from_slice(from);
        }
    }
}

/// A record, its data unread.
struct RawRecord<'a> {
    name: Name,
    kind: RecordType,
    class: u16,
    ttl: u32,
    /// Where that is in the message.
    ttl_at: usize,
    data: &'a [u8],
}

impl<'a> RawRecord<'a> {
    fn read(decoder: &mut BinDecoder<'a>) -> Result<Self, DecodeError> {
        let name = Name::read(decoder)?;
        let kind = RecordType::read(decoder)?;
        let class = decoder.read_u16()?.unverified(/* any is valid */);
        let ttl_at = decoder.index();
        let ttl = decoder.read_u32()?.unverified(/* any is valid */);
        let length = decoder.read_u16()?.unverified(/* the next line fails when it is too long */);
        let data = decoder.read_slice(length.into())?.unverified(/* passed on unread */);
        Ok(Self { name, kind, class, ttl, ttl_at, data })
    }
}

#[cfg(test)]
mod tests;
