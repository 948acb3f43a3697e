//! The programs by themselves (BPF_PROG_TEST_RUN), with packets that are cut off, damaged or full of options. What they
//! do not understand they leave as it is; what they change keeps exactly the checksums that it had, right or wrong.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use libnetwork_model::Protocol;
use world::{
    World, hardware_address, mapping,
    packets::{frame, ip, transport},
    random::Random,
    runner::{CLIENT, CLIENT6, CONTAINER, CONTAINER6, HOST, HOST6, Runner, TC_ACT_REDIRECT},
};

/// The frame whole, cut off everywhere, and damaged in many ways.
fn torment(runner: &Runner, frame: &[u8]) {
    assert_eq!(runner.check(frame), TC_ACT_REDIRECT, "{frame:02x?}");
    for length in 14..frame.len() {
        runner.check(&frame[..length]);
    }
    let mut random = Random::new();
    for _ in 0..2000 {
        runner.check(&random.damaged(frame));
    }
}

#[test]
fn no_packet_leaves_with_another_checksum_than_it_came_with() {
    let mut world = World::new();
    world.obey = false;
    world.reopen();
    let ports = [Protocol::Tcp, Protocol::Udp].map(|protocol| mapping(protocol, None, 8080, 8080, 80));
    world.publish(&ports);
    let towards = Runner::new(&world, "towards", "up0");
    let back = Runner::new(&world, "back", "cwa");
    world.inside("host", || {
        let (up, veth) = (hardware_address("up0"), hardware_address("cwa"));
        for (client, host, container) in [(CLIENT, HOST, CONTAINER), (CLIENT6, HOST6, CONTAINER6)] {
            for (protocol, options) in [(6, 0), (17, 0), (6, 1), (17, 3)] {
                // Odd in length, so that the last byte counts for half a word.
                let body = &b"a body of an odd length"[..];
                let there = transport(protocol, client, host, [7, 8080], body);
                let inside = transport(protocol, client, container, [7, 80], body);
                let answer = transport(protocol, container, client, [80, 7], body);
                let answered = transport(protocol, host, client, [8080, 7], body);
                let begin = frame(up, &ip(protocol, client, host, options, &there));
                torment(&towards, &begin);
                assert_eq!(towards.check(&begin), TC_ACT_REDIRECT);
                torment(&back, &frame(veth, &ip(protocol, container, client, options, &answer)));

                // Unreachable, with as much of the packet as there is, and with eight bytes of it.
                let icmp = if client.len() == 4 { (1, [3, 3]) } else { (58, [1, 4]) };
                for length in [8, body.len()] {
                    // What was done to a connection may have closed it.
                    assert_eq!(towards.check(&begin), TC_ACT_REDIRECT);
                    let quoted = ip(protocol, client, container, 0, &inside);
                    let header = quoted.len() - inside.len();
                    let error = transport(icmp.0, container, client, icmp.1, &quoted[..header + length]);
                    torment(&back, &frame(veth, &ip(icmp.0, container, client, 0, &error)));
                    let quoted = ip(protocol, host, client, 0, &answered);
                    let error = transport(icmp.0, client, host, icmp.1, &quoted[..header + length]);
                    torment(&towards, &frame(up, &ip(icmp.0, client, host, 0, &error)));
                }
            }
        }
    });
}
