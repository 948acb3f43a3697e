//! Links that carry IP alone: a tun at each end, and a pump between them.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
    thread,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::World;

/// What it is called at both ends.
pub const LINK: &str = "tun0";

/// From the host (198.51.100.1, 2001:db8:51::1) to another place (2). Gone when it is let go of, as when a VPN ends.
pub struct Tunnel {
    host: Arc<File>,
    /// Closed, the pumps end.
    open: Option<OwnedFd>,
    pumps: Vec<thread::JoinHandle<()>>,
}

impl World {
    pub fn tunnel(&self, place: &str) -> Tunnel {
        let [host, far] = [("host", 1), (place, 2)].map(|(place, number)| {
            let end = self.inside(place, tun);
            self.ip(place, &format!("link set {LINK} up"));
            self.ip(place, &format!("address add 198.51.100.{number}/24 dev {LINK}"));
            self.ip(place, &format!("address add 2001:db8:51::{number}/64 dev {LINK} nodad"));
            Arc::new(end)
        });
        let (closed, open) = nix::unistd::pipe().unwrap();
        let closed = Arc::new(closed);
        let pumps = [(&host, &far), (&far, &host)].map(|(from, to)| {
            let (from, to, closed) = (from.clone(), to.clone(), closed.clone());
            thread::spawn(move || pump(&from, &to, &closed))
        });
        Tunnel { host, open: Some(open), pumps: pumps.into() }
    }
}

impl Tunnel {
    /// Puts a packet into the host, as if it had come from the other end.
    pub fn inject(&self, packet: &[u8]) -> io::Result<()> {
        (&*self.host).write(packet).map(drop)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.open = None;
        for pump in self.pumps.drain(..) {
            let _ = pump.join();
        }
    }
}

fn pump(mut from: &File, mut to: &File, closed: &OwnedFd) {
    let mut packet = vec![0; 1 << 16];
    loop {
        let mut fds =
            [PollFd::new(from.as_fd(), PollFlags::POLLIN), PollFd::new(closed.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) if fds[1].any() != Some(false) => return,
            Ok(_) => {}
        }
        let Ok(length) = from.read(&mut packet) else { return };
        // One that the other end does not take is lost, as on any link.
        let _ = to.write(&packet[..length]);
    }
}

fn tun() -> File {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: zeros are an ifreq; the request reads the name and the flags.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(LINK.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        let result = libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request);
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }
    file
}
