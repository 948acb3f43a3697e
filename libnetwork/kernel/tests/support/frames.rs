//! Frames of one's own making, sent from a namespace and heard in one.

use std::{
    ffi::CString,
    fs::File,
    io::{Read, Write},
    mem::size_of,
    os::fd::{AsRawFd, FromRawFd},
    path::Path,
    time::{Duration, Instant},
};

use super::PATIENCE;
use nix::sched::{CloneFlags, setns};

/// One link of one namespace, as a packet socket has it (packet(7)).
pub struct Wire(File);

impl Wire {
    /// The namespace at `namespace`, by a thread that ends there.
    pub fn open(namespace: &Path, link: &str) -> Self {
        let open = || {
            setns(File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let link = CString::new(link).unwrap();
            // SAFETY: a string that ends in a zero byte; a new descriptor that nobody else has; an address of its length.
            unsafe {
                let all = (libc::ETH_P_ALL as u16).to_be();
                let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
                let socket = libc::socket(libc::AF_PACKET, kind, all.into());
                assert!(socket >= 0, "{}", std::io::Error::last_os_error());
                let file = File::from_raw_fd(socket);
                let mut place: libc::sockaddr_ll = std::mem::zeroed();
                place.sll_family = libc::AF_PACKET as u16;
                place.sll_protocol = all;
                place.sll_ifindex = libc::if_nametoindex(link.as_ptr()) as i32;
                let length = size_of::<libc::sockaddr_ll>() as u32;
                let bound = libc::bind(file.as_raw_fd(), (&raw const place).cast(), length);
                assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
                Wire(file)
            }
        };
        std::thread::scope(|scope| scope.spawn(open).join().unwrap())
    }

    pub fn send(&self, frame: &[u8]) {
        assert_eq!((&self.0).write(frame).unwrap(), frame.len());
    }

    /// Whether a frame with this in it comes before one with the other, which is sent after it and has to come.
    pub fn hears(&self, part: &[u8], before: &[u8]) -> bool {
        let (start, mut frame, mut heard) = (Instant::now(), [0; 2048], false);
        while start.elapsed() < PATIENCE {
            let Ok(length) = (&self.0).read(&mut frame) else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            let has = |part: &[u8]| frame[..length].windows(part.len()).any(|window| window == part);
            heard |= has(part);
            if has(before) {
                return heard;
            }
        }
        panic!("never: {}", String::from_utf8_lossy(before));
    }
}

/// A frame of what stands one behind the other: two addresses, tags, a type, a payload.
pub fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let mut frame = parts.concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// RFC 826: who asks, and about whom.
pub fn arp_request(mac: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, 1][..], &mac, &sender, &[0; 6], &target].concat()
}

/// RFC 791 and RFC 768: a datagram without a checksum of its own.
pub fn udp(source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let length = |of: usize| (of as u16).to_be_bytes();
    let mut header = [&[0x45, 0][..], &length(28 + payload.len()), &[0, 0, 0, 0, 64, 17, 0, 0]].concat();
    header.extend([source, destination].concat());
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header[..], &[0x30, 0x39, 0x30, 0x39], &length(8 + payload.len()), &[0, 0], payload].concat()
}
