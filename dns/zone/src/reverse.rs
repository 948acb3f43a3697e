use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address that a name of the reverse zones stands for (RFC 1035 3.5, RFC 3596 2.5). None for any other name, and
/// for a prefix of an address.
pub(crate) fn address(name: &str) -> Option<IpAddr> {
    if let Some(text) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0u8; 4];
        let mut labels = text.split('.');
        for octet in octets.iter_mut().rev() {
            let label = labels.next()?;
            *octet = label.parse().ok().filter(|_| label.bytes().all(|b| b.is_ascii_digit()))?;
        }
        return labels.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let text = name.strip_suffix(".ip6.arpa")?;
    let mut bits: u128 = 0;
    let mut count = 0;
    for label in text.split('.') {
        let &[digit] = label.as_bytes() else { return None };
        let nibble = char::from(digit).to_digit(16)?;
        if count == 32 {
            return None;
        }
        bits |= u128::from(nibble) << (4 * count);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reverse_name_is_read_back_to_front() {
        assert_eq!(address("3.0.18.172.in-addr.arpa"), Some(IpAddr::from([172, 18, 0, 3])));
        let v6 = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(address(v6), Some("fd00::2".parse().expect("an address")));
    }

    #[test]
    fn a_prefix_or_a_malformed_reverse_name_is_no_address() {
        for name in [
            "18.172.in-addr.arpa",
            "1.3.0.18.172.in-addr.arpa",
            "+3.0.18.172.in-addr.arpa",
            "256.0.18.172.in-addr.arpa",
            "in-addr.arpa",
            "0.f.ip6.arpa",
            "web",
        ] {
            assert_eq!(address(name), None, "{name}");
        }
    }
}
