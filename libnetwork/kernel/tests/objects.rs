//! Every kind of object and every change to one, made and read back.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use driver_bridge::BridgeDriver;
use libnetwork_core::Kernel;
use libnetwork_model::{MacAddress, PortRange, Protocol, PublishedPort};
use libnetwork_plan::{
    BridgePort, Cause, Datum, Desired, Driver, Key, LinkRank, Neighbour, Ns, Object, Operation, Route, Scope,
};
use support::*;

fn bridge(name: &str) -> Key {
    Key::Link { rank: LinkRank::Bridge, ns: Ns::Host, name: name.into() }
}

/// What a world of one network and one endpoint is made of, to be changed.
fn base() -> (World, Desired) {
    let mut world = World::new();
    world.network(1, |_| {});
    world.network(2, |_| {});
    world.endpoint(1, 2);
    let desired = world.desired();
    (world, desired)
}

fn veth(desired: &mut Desired) -> &mut libnetwork_plan::Link {
    desired
        .iter_mut()
        .find_map(|(key, object)| match (key, object) {
            (Key::Link { rank: LinkRank::Veth, .. }, Object::Link(link)) => Some(link),
            _ => None,
        })
        .unwrap()
}

#[test]
fn neighbours_forwarding_entries_routes_and_settings_are_made_and_removed() {
    host(|| async {
        let (mut kernel, (_, base)) = (kernel(), base());
        let mut desired = base.clone();
        let mac = MacAddress([2, 0, 0, 0, 0, 7]);
        let sandbox = Ns::Sandbox(sandbox_id(2));
        let (link, veth) = ("br-010101010101", "cw010202020202");
        let address = |text: &str| text.parse().unwrap();
        for ip in ["10.100.1.7", "fd00:1::7"] {
            let key = Key::Neighbour { ns: Ns::Host, link: link.into(), address: address(ip) };
            desired.insert(key, Object::Neighbour(Neighbour { mac }));
        }
        desired.insert(Key::Fdb { ns: Ns::Host, link: veth.into(), mac }, Object::Fdb);
        let via =
            |gateway: &str| Route { link: "eth0".into(), gateway: Some(address(gateway)), source: None };
        for (net, gateway) in [("10.200.0.0/16", "10.100.1.1"), ("fd99::/32", "fd00:1::1")] {
            let key = Key::Route { ns: sandbox.clone(), destination: net.parse().unwrap(), metric: 77 };
            desired.insert(key, Object::Route(via(gateway)));
        }
        let on_link = Route { link: link.into(), gateway: None, source: Some(address("10.100.1.1")) };
        let key = Key::Route { ns: Ns::Host, destination: "10.201.0.0/16".parse().unwrap(), metric: 0 };
        desired.insert(key, Object::Route(on_link));
        for (ns, link, name) in [
            (sandbox.clone(), "eth0", "net/ipv4/conf/eth0/arp_ignore"),
            (Ns::Host, link, "net/ipv4/conf/br-010101010101/proxy_arp"),
        ] {
            let key = Key::LinkSysctl { ns, link: link.into(), name: name.into() };
            desired.insert(key, Object::Sysctl("1".into()));
        }
        let key = Key::Sysctl { ns: sandbox.clone(), name: "net/ipv4/ip_unprivileged_port_start".into() };
        desired.insert(key, Object::Sysctl("0".into()));
        pass(&mut kernel, &desired).await;
        assert_settled(&mut kernel, &desired).await;
        assert!(sh(&format!("bridge fdb show br {link}")).contains("02:00:00:00:00:07"));
        let moved = Key::Route { ns: sandbox, destination: "10.200.0.0/16".parse().unwrap(), metric: 77 };
        desired.insert(moved, Object::Route(via("10.100.1.9")));
        pass(&mut kernel, &desired).await;
        assert_settled(&mut kernel, &desired).await;
        pass(&mut kernel, &base).await;
        assert_settled(&mut kernel, &base).await;
    });
}

#[test]
fn a_setting_that_the_kernel_writes_in_its_own_way_is_as_desired_until_somebody_changes_it() {
    host(|| async {
        let (mut kernel, (_, mut desired)) = (kernel(), base());
        let ns = Ns::Sandbox(sandbox_id(2));
        // One with a zero in front, and one that is rounded where the kernel has 250 ticks a second.
        let settings =
            [("net/ipv4/conf/eth0/log_martians", "01"), ("net/ipv4/neigh/eth0/retrans_time_ms", "333")];
        for (name, value) in settings {
            let key = Key::LinkSysctl { ns: ns.clone(), link: "eth0".into(), name: name.into() };
            desired.insert(key, Object::Sysctl(value.into()));
        }
        pass(&mut kernel, &desired).await;
        assert_settled(&mut kernel, &desired).await;
        for (name, _) in settings {
            assert!(inside(2, &format!("sysctl -qw {name}=0")).status.success());
            assert_eq!(pass(&mut kernel, &desired).await.operations.len(), 1);
            assert_settled(&mut kernel, &desired).await;
        }
        let key = Key::LinkSysctl { ns, link: "eth0".into(), name: settings[0].0.into() };
        desired.insert(key, Object::Sysctl("1".into()));
        assert_eq!(pass(&mut kernel, &desired).await.operations.len(), 1);
        assert_settled(&mut kernel, &desired).await;
    });
}

#[test]
fn more_refusals_than_the_kernel_keeps_for_us_are_not_laid_to_a_change_that_it_takes() {
    host(|| async {
        let (mut kernel, (_, desired)) = (kernel(), base());
        pass(&mut kernel, &desired).await;
        let by_link = |(key, object): (&Key, &Object)| match (key, object) {
            (Key::SetElement { ns, table, set, element }, Object::SetElement(value)) => {
                let [Datum::Ifname(_)] = element[..] else { return None };
                Some((ns.clone(), table.clone(), set.clone(), value.clone()))
            }
            _ => None,
        };
        let (ns, table, set, value) = desired.iter().find_map(by_link).unwrap();
        let element = |link: String| {
            let element = vec![Datum::Ifname(link.as_str().into())];
            Key::SetElement { ns: ns.clone(), table: table.clone(), set: set.clone(), element }
        };
        let object = Object::SetElement(value.clone());
        let wanted = element("new0".into());
        let mut operations = vec![Operation::Create { key: wanted.clone(), object: object.clone() }];
        let gone =
            (0..2000).map(|n| Operation::Delete { key: element(format!("gone{n}")), object: object.clone() });
        operations.extend(gone);
        for (operation, result) in operations.iter().zip(kernel.apply(&operations).await) {
            result.unwrap_or_else(|error| panic!("{}: {:?}", operation.key(), error.cause));
        }
        let observed = kernel.observe(&Scope::Keys([wanted.clone()].into())).await.unwrap();
        assert!(observed.contains_key(&wanted));
    });
}

#[test]
fn every_detail_of_a_link_changes_in_place() {
    host(|| async {
        let (mut kernel, (_, mut base)) = (kernel(), base());
        // A port's own, which some of what follows is not.
        base.retain(|key, _| !matches!(key, Key::Fdb { .. }));
        pass(&mut kernel, &base).await;
        let index =
            || sh("cat /sys/class/net/cw010202020202/ifindex 2>/dev/null || ip -o link show cw010202020202");
        let before = index().split(':').next().map(str::to_owned);
        type Change = fn(&mut libnetwork_plan::Link);
        let changes: [Change; 7] = [
            |link| link.mtu = 1400,
            |link| link.mac = Some(MacAddress([2, 0, 0, 0, 0, 9])),
            |link| link.port.isolated = true,
            |link| link.master = Some("br-020202020202".into()),
            |link| (link.master, link.port) = (None, BridgePort::default()),
            |link| link.up = false,
            |link| link.id = "somebody-else".into(),
        ];
        let mut desired = base.clone();
        for change in changes {
            change(veth(&mut desired));
            let plan = pass(&mut kernel, &desired).await;
            assert_eq!(plan.operations.len(), 1, "{:?}", plan.operations);
            assert_settled(&mut kernel, &desired).await;
        }
        let plan = pass(&mut kernel, &base).await;
        assert!(matches!(&plan.operations[..], [Operation::Update { .. }]), "{:?}", plan.operations);
        assert_settled(&mut kernel, &base).await;
        assert_eq!(index().split(':').next().map(str::to_owned), before, "the link was made anew");
    });
}

#[test]
fn what_needs_something_that_failed_is_not_tried() {
    host(|| async {
        let (mut kernel, (_, desired)) = (kernel(), base());
        let mut operations: Vec<Operation> = Vec::new();
        for (key, object) in desired {
            let mut object = object;
            if let (true, Object::Link(link)) = (key == bridge("br-010101010101"), &mut object) {
                // More than the kernel takes.
                link.mtu = 1 << 24;
            }
            operations.push(Operation::Create { key, object });
        }
        let results = kernel.apply(&operations).await;
        let failed: Vec<_> = operations
            .iter()
            .zip(&results)
            .filter_map(|(o, r)| r.as_ref().err().map(|e| (o.key(), e)))
            .collect();
        let (first, rest) = failed.split_first().unwrap();
        assert_eq!(first.0, &bridge("br-010101010101"));
        assert_eq!(first.1.cause.errno(), Some(22), "{}", first.1.cause);
        assert!(first.1.to_string().contains("br-010101010101"), "{}", first.1);
        // The veth pair that would be its port, the addresses on both, the bridge's setting, the routes by way of them, and
        // who is where.
        assert_eq!(rest.len(), 11, "{rest:#?}");
        assert!(rest.iter().all(|(_, error)| matches!(error.cause, Cause::Prerequisite(_))), "{rest:#?}");
    });
}

#[test]
fn one_refused_element_does_not_stop_the_others() {
    host(|| async {
        let (mut kernel, (_, desired)) = (kernel(), base());
        let mut operations: Vec<Operation> = desired
            .iter()
            .map(|(key, object)| Operation::Create { key: key.clone(), object: object.clone() })
            .collect();
        let place = operations.iter().position(|o| matches!(o.key(), Key::SetElement { .. })).unwrap();
        let Key::SetElement { ns, table, element, .. } = operations[place].key().clone() else {
            unreachable!()
        };
        let key = Key::SetElement { ns, table, set: "no-such-set".into(), element };
        operations.insert(place, Operation::Create { key, object: Object::SetElement(None) });
        let results = kernel.apply(&operations).await;
        let failed: Vec<usize> = (0..results.len()).filter(|i| results[*i].is_err()).collect();
        assert_eq!(failed, [place], "{results:?}");
        assert_eq!(results[place].as_ref().unwrap_err().cause.errno(), Some(2));
        assert_settled(&mut kernel, &desired).await;
    });
}

#[test]
fn removing_what_is_gone_already_succeeds() {
    host(|| async {
        let (mut kernel, (_, desired)) = (kernel(), base());
        pass(&mut kernel, &desired).await;
        let removals: Vec<Operation> = desired
            .iter()
            .rev()
            .filter(|(key, _)| !matches!(key, Key::Sysctl { .. } | Key::LinkSysctl { .. }))
            .map(|(key, object)| Operation::Delete { key: key.clone(), object: object.clone() })
            .collect();
        for _ in 0..2 {
            for result in kernel.apply(&removals).await {
                result.unwrap();
            }
        }
        assert_settled(&mut kernel, &Desired::new()).await;
    });
}

#[test]
fn elements_that_are_ranges_or_lead_to_addresses_are_read_back_as_they_are() {
    host(|| async {
        let mut kernel = kernel();
        let mut world = World::new();
        let options = [
            ("com.docker.network.host_ipv4", "192.0.2.7"),
            ("com.docker.network.host_ipv6", "2001:db8::7"),
            ("com.docker.network.bridge.trusted_host_interfaces", "wg0:eth9"),
        ];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let id = world.network(1, |network| network.options = options.into_iter().collect());
        world.endpoint(1, 2);
        let network = world.intent.network(&id).unwrap();
        let endpoint = world.intent.endpoints_on(&id).next().unwrap();
        let with = |ports: &[(u16, u16)]| {
            let port = |(first, last): &(u16, u16)| PublishedPort {
                protocol: Protocol::Udp,
                host_ip: None,
                host_ports: PortRange::new(*first, *last).unwrap(),
                container_port: *first,
                routed: false,
            };
            let ports: Vec<PublishedPort> = ports.iter().map(port).collect();
            let mut desired = world.desired();
            for ipv6 in [false, true] {
                BridgeDriver::default().port_objects(network, endpoint, ipv6, &ports, &[], &mut desired);
            }
            desired
        };
        // Each overlaps the one before in another way.
        for ports in [&[(80, 80)][..], &[(1, 65535)], &[(70, 90), (1000, 2000)], &[(80, 1500)], &[]] {
            let desired = with(ports);
            pass(&mut kernel, &desired).await;
            assert_settled(&mut kernel, &desired).await;
        }
    });
}
