//! Datagrams that the host sends from a published port, itself or for a container behind its masquerading, are answered
//! to it.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::net::SocketAddr;

use libnetwork_model::Protocol;
use world::{
    World, mapping,
    talk::{ask, datagram_socket},
};

/// A server outside, and nearly all ports of the host published, with a server behind them too.
fn world(obey: bool) -> World {
    let mut world = World::new();
    world.obey = obey;
    world.reopen();
    world.nft(
        "table inet masquerading {\n chain out {\n type nat hook postrouting priority 100\n\
         ip saddr 10.0.0.0/8 oifname up0 masquerade\n ip6 saddr fd00::/8 oifname up0 masquerade\n }\n }\n\
         insert rule inet isolation forward ct state established accept\n",
    );
    world.serve("outside", 53);
    world.serve("a", 80);
    world.publish(&[
        mapping(Protocol::Udp, None, 5000, 5000, 80),
        mapping(Protocol::Udp, None, 1024, 4999, 1024),
    ]);
    world
}

#[test]
fn answers_to_masqueraded_datagrams_find_back() {
    for obey in [true, false] {
        let world = world(obey);
        for (to, host) in [("192.0.2.2:53", "192.0.2.1"), ("[2001:db8::2]:53", "2001:db8::1")] {
            let to: SocketAddr = to.parse().unwrap();
            for (place, port) in [("c", 5000), ("b", 3000)] {
                let (seen, from) = world.inside(place, || {
                    let socket = datagram_socket(to, port).unwrap();
                    ask(&socket, to).unwrap();
                    ask(&socket, to).unwrap_or_else(|e| panic!("from {place} to {to}: {e}"))
                });
                assert_eq!((seen, from), (SocketAddr::new(host.parse().unwrap(), port), to));
            }
        }
    }
}

#[test]
fn answers_of_a_flow_are_not_taken_for_the_hosts_own() {
    let world = world(false);
    // The container's answers leave from the published port too.
    let to: SocketAddr = "192.0.2.1:5000".parse().unwrap();
    world.inside("outside", || {
        let socket = datagram_socket(to, 6000).unwrap();
        for _ in 0..3 {
            assert_eq!(ask(&socket, to).unwrap().1, to);
        }
    });
    let noted = {
        use aya::maps::{HashMap, Map, MapData};
        let pin = world.pins().join(format!("v{}/maps/SENT", ebpf_layouts::VERSION));
        let map = Map::LruHashMap(MapData::from_pin(pin).unwrap());
        HashMap::<_, [u8; 40], u32>::try_from(map).unwrap().keys().count()
    };
    assert_eq!(noted, 0);
}
