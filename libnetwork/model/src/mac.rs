use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::EndpointId;

/// An Ethernet address, written `02:42:ac:11:00:02`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a unicast MAC address like 02:42:ac:11:00:02")]
pub struct MacError {
    pub text: String,
}

impl MacAddress {
    /// The locally administered address that Docker's bridge derives from an IPv4 lease (`02:42:` and its 4 bytes), so
    /// that an address that moves to another container never meets a stale neighbour entry.
    pub fn from_ipv4(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// The one that an interface has when nobody asked for another: derived from its lease, or from its endpoint's id.
    pub fn derived(ipv4: Option<Ipv4Addr>, id: &EndpointId) -> Self {
        let byte = |i: usize| u8::from_str_radix(&id.as_str()[2 * i..2 * i + 2], 16).unwrap_or(0);
        match ipv4 {
            Some(address) => Self::from_ipv4(address),
            None => Self([0x02, 0x42, byte(0), byte(1), byte(2), byte(3)]),
        }
    }
}

impl FromStr for MacAddress {
    type Err = MacError;
    fn from_str(text: &str) -> Result<Self, MacError> {
        let error = || MacError { text: text.chars().take(40).collect() };
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            // `from_str_radix` would take a sign for a digit.
            let two_digits = |p: &&str| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit());
            let part = parts.next().filter(two_digits).ok_or_else(error)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        // The lowest bit of the first byte means a group address (IEEE 802), which no interface may carry.
        if parts.next().is_some() || bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(error());
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for MacAddress {
    type Error = MacError;
    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> String {
        mac.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_digits_are_a_byte() {
        assert_eq!("02-42:AC-11:00:02".parse(), Ok(MacAddress::from_ipv4([172, 17, 0, 2].into())));
        for text in [
            "02:42:+1:+2:+3:+4",
            "02:42:-1:0:00:00",
            "2:42:00:00:00:01",
            "02:42:00:00:00",
            "02:42:0x:00:00:00",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }
}
