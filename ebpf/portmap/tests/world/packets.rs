//! Packets made by hand.

/// The sum of RFC 1071, folded; of nothing and of a whole of right checksum it is 0xffff or 0.
pub fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let total: u64 =
        words.map(|w| u64::from(u16::from_be_bytes([w[0], w.get(1).copied().unwrap_or_default()]))).sum();
    (total % 0xffff) as u16
}

/// A TCP (with a SYN or not), UDP or ICMP packet, its checksum filled in.
pub fn transport(protocol: u8, source: &[u8], destination: &[u8], ports: [u16; 2], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let field = match protocol {
        6 => {
            bytes.extend(ports.iter().flat_map(|p| p.to_be_bytes()));
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x60, 0x02, 0x10, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4]);
            16
        }
        17 => {
            bytes.extend(ports.iter().flat_map(|p| p.to_be_bytes()));
            bytes.extend((8 + body.len() as u16).to_be_bytes());
            bytes.extend([0, 0]);
            6
        }
        // Ports: type and code.
        _ => {
            bytes.extend([ports[0] as u8, ports[1] as u8, 0, 0, 0, 0, 5, 0]);
            2
        }
    };
    bytes.extend(body);
    let pseudo = [source, destination, &[0, protocol], &(bytes.len() as u16).to_be_bytes()].concat();
    let checksum = !if protocol == 1 { sum(&[&bytes]) } else { sum(&[&pseudo, &bytes]) };
    bytes[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// With options (of 8 bytes each) that mean nothing.
pub fn ip(protocol: u8, source: &[u8], destination: &[u8], options: u8, payload: &[u8]) -> Vec<u8> {
    let mut header;
    if source.len() == 4 {
        let words = 5 + 2 * options;
        header = vec![0x40 | words, 0];
        header.extend((u16::from(words) * 4 + payload.len() as u16).to_be_bytes());
        header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        header.extend([source, destination].concat());
        header.resize(usize::from(words) * 4, 1);
        let checksum = !sum(&[&header]);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        header = vec![0x60, 0, 0, 0];
        header.extend((8 * u16::from(options) + payload.len() as u16).to_be_bytes());
        header.extend([if options > 0 { 60 } else { protocol }, 64]);
        header.extend([source, destination].concat());
        for left in (0..options).rev() {
            header.extend([if left > 0 { 60 } else { protocol }, 0, 1, 4, 0, 0, 0, 0]);
        }
    }
    header.extend(payload);
    header
}

pub fn frame(mac: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&mac[..], &[2, 0, 0, 0, 0, 9], &kind, packet].concat()
}
