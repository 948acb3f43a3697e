//! An upstream server: real sockets, an answer made by the test.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::Message,
    rr::{Name, RData, Record, rdata::A},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

use crate::bed::Namespace;

/// What it was asked: over TCP or not, and the packet.
pub(crate) type Asked = Arc<Mutex<Vec<(bool, Message)>>>;

/// Seconds, longer than any test takes.
const TTL: u32 = 3600;

/// Makes a reply, or none, of a query and whether it came over TCP.
pub(crate) type Script = fn(&Message, bool) -> Option<Vec<u8>>;

/// Listens on port 53 of an address, on the host or inside a sandbox, until the runtime ends.
pub(crate) async fn start(address: &str, inside: Option<&Namespace>, script: Script) -> Asked {
    let at = SocketAddr::new(address.parse().unwrap(), 53);
    let bind = move || {
        let (udp, tcp) = (std::net::UdpSocket::bind(at).unwrap(), std::net::TcpListener::bind(at).unwrap());
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        (udp, tcp)
    };
    let (udp, tcp) = match inside {
        Some(namespace) => namespace.run(bind).await,
        None => bind(),
    };
    let asked = Asked::default();
    tokio::spawn(serve_udp(UdpSocket::from_std(udp).unwrap(), script, asked.clone()));
    tokio::spawn(serve_tcp(TcpListener::from_std(tcp).unwrap(), script, asked.clone()));
    asked
}

async fn serve_udp(socket: UdpSocket, script: Script, asked: Asked) {
    let mut buffer = [0; 65535];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
        let query = Message::from_vec(&buffer[..length]).unwrap();
        let reply = script(&query, false);
        asked.lock().unwrap().push((false, query));
        if let Some(reply) = reply {
            socket.send_to(&reply, client).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener, script: Script, asked: Asked) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let asked = asked.clone();
        tokio::spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut packet = vec![0; length.into()];
                stream.read_exact(&mut packet).await.unwrap();
                let query = Message::from_vec(&packet).unwrap();
                let reply = script(&query, true);
                asked.lock().unwrap().push((true, query));
                if let Some(reply) = reply {
                    stream.write_u16(reply.len() as u16).await.unwrap();
                    stream.write_all(&reply).await.unwrap();
                }
            }
        });
    }
}

/// The reply to a query, without records.
pub(crate) fn reply(query: &Message) -> Message {
    let mut reply = query.clone().into_response();
    reply.metadata.recursion_available = true;
    reply
}

/// A reply with this many addresses, the first of which is `first`.
pub(crate) fn addresses(query: &Message, first: [u8; 4], count: u32) -> Message {
    let mut reply = reply(query);
    let name: Name = query.queries[0].name.clone();
    for n in 0..count {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::from(first)) + n);
        reply.add_answer(Record::from_rdata(name.clone(), TTL, RData::A(A(address))));
    }
    reply
}

pub(crate) fn encode(message: Message) -> Option<Vec<u8>> {
    Some(message.to_vec().unwrap())
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
