use std::net::IpAddr;

use crate::Network;

const TTL: &str = "io.causeway.dns.ttl";
const UPSTREAMS: &str = "io.causeway.dns.upstreams";
/// A week: RFC 8767 (section 4) finds no use for more.
const LONGEST_TTL: u32 = 604_800;

/// What a network's options say of names, whatever its driver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsOptions {
    /// `io.causeway.dns.ttl`: the seconds that what runs on the network may keep an answer about containers.
    pub ttl: Option<u32>,
    /// `io.causeway.dns.upstreams`: the servers that know the rest, separated by commas; for containers without servers
    /// of their own (`--dns`). Asked from inside the container. Empty: the host's.
    pub upstreams: Vec<IpAddr>,
}

/// An option that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {value:?} of option {option}: give {wanted}")]
pub struct DnsOptionError {
    pub option: &'static str,
    pub value: String,
    pub wanted: &'static str,
}

impl DnsOptions {
    pub fn read(network: &Network) -> Result<Self, DnsOptionError> {
        let refuse = |option, value: &str, wanted| DnsOptionError { option, value: value.to_owned(), wanted };
        let ttl = match network.options.get(TTL) {
            None => None,
            Some(text) => match text.parse() {
                Ok(seconds @ 0..=LONGEST_TTL) => Some(seconds),
                _ => return Err(refuse(TTL, text, "seconds, 0 to 604800")),
            },
        };
        let upstreams = match network.options.get(UPSTREAMS) {
            None => Vec::new(),
            Some(text) => text
                .split(',')
                .map(|server| server.trim().parse())
                .collect::<Result<_, _>>()
                .map_err(|_| refuse(UPSTREAMS, text, "addresses separated by commas"))?,
        };
        Ok(Self { ttl, upstreams })
    }
}
