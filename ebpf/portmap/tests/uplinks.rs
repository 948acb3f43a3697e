//! Uplinks that come while others are there.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{fs, path::PathBuf};

use libnetwork_core::PortMapper;
use libnetwork_model::Uplink;
use world::{World, web};

/// Where the links to uplinks are pinned.
fn link_pins(world: &World) -> PathBuf {
    let layouts = fs::read_dir(world.pins()).unwrap().map(|entry| entry.unwrap().path().join("links"));
    layouts.into_iter().find(|links| links.is_dir()).unwrap()
}

#[test]
fn an_uplink_that_refuses_stops_no_other_and_is_served_once_it_does_not() {
    let mut world = World::open();
    world.serve("a", 80);
    world.publish(&web());
    let mut facts = world.facts();
    for n in [1, 2] {
        world.link(("host", &format!("up{n}")), ("outside", &format!("far{n}")));
        world.ip("host", &format!("address add 198.18.{n}.1/24 dev up{n}"));
        world.ip("outside", &format!("address add 198.18.{n}.2/24 dev far{n}"));
        let index =
            world.inside("host", || nix::net::if_::if_nametoindex(format!("up{n}").as_str()).unwrap());
        let addresses = vec![format!("198.18.{n}.1/24").parse().unwrap()];
        facts.uplinks.insert(format!("up{n}"), Uplink { index, mtu: 1500, addresses });
    }
    // Something is where its link would be pinned.
    let obstacle = link_pins(&world).join(format!("uplink-{}", facts.uplinks["up1"].index));
    fs::create_dir(&obstacle).unwrap();

    let told = facts.clone();
    let refused = world.mapper(move |m| m.uplinks(&told)).unwrap_err();
    assert!(refused.object.contains("uplink-"), "{refused}");
    world.seen_from(&[("outside", "198.18.2.1", "198.18.2.2")], 8080);
    world.seen_from(&[("outside", "192.0.2.1", "192.0.2.2")], 8080);

    fs::remove_dir(&obstacle).unwrap();
    world.mapper(move |m| m.uplinks(&facts)).unwrap();
    world.seen_from(&[("outside", "198.18.1.1", "198.18.1.2")], 8080);
}
