//! The planner from any state to any state, with a failure at any step, against a kernel that refuses what the kernel
//! refuses. What is expected is the specification's own list of objects; the planner is never asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use libnetwork_model::{MacAddress, SandboxId};
use proptest::prelude::*;

use crate::{fake::FakeKernel, *};

/// A small world: up to three networks and three sandboxes, any of them attached to any, and the details that differ.
#[derive(Debug, Clone, PartialEq)]
struct Spec {
    rules: u8,
    networks: [Option<Net>; 3],
    sandboxes: [Option<Sbx>; 3],
}

#[derive(Debug, Clone, PartialEq)]
struct Net {
    ipv6: bool,
    mtu: u32,
    isolated: bool,
    drop: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Sbx {
    /// Per network: the last byte of its lease, and the generation of its interface's name.
    attached: [Option<(u8, u8)>; 3],
}

fn net() -> impl Strategy<Value = Net> {
    (any::<bool>(), prop_oneof![Just(1500), Just(1400)], any::<bool>(), any::<bool>())
        .prop_map(|(ipv6, mtu, isolated, drop)| Net { ipv6, mtu, isolated, drop })
}

fn sandbox() -> impl Strategy<Value = Sbx> {
    let attached = prop::option::of((2..5u8, 0..2u8));
    prop::array::uniform3(attached).prop_map(|attached| Sbx { attached })
}

fn spec() -> impl Strategy<Value = Spec> {
    (
        0..2u8,
        prop::array::uniform3(prop::option::of(net())),
        prop::array::uniform3(prop::option::of(sandbox())),
    )
        .prop_map(|(rules, networks, sandboxes)| Spec { rules, networks, sandboxes })
}

fn id(i: usize) -> SandboxId {
    SandboxId::from_bytes([i as u8 + 1; 32])
}

fn name(text: impl Into<String>) -> Name {
    text.into().into()
}

fn table() -> Table {
    Table { family: Family::Inet, name: name("causeway") }
}

fn ruleset(version: u8) -> Object {
    let verdict = if version == 0 { Verdict::Accept } else { Verdict::Drop };
    let set = |name: &str, data| Set { name: name.into(), key: vec![SetType::Ifname], data, ranges: false };
    Object::Ruleset(Arc::new(Ruleset {
        table: table(),
        sets: vec![set("bridges", None), set("same", Some(MapType::Verdict))],
        chains: vec![Chain {
            name: name("c"),
            base: None,
            rules: vec![Rule::new("r", [Expr::Verdict(verdict)])],
        }],
    }))
}

fn desired(spec: &Spec) -> Desired {
    let mut out = Desired::new();
    out.insert(Key::Ruleset { ns: Ns::Host, table: table() }, ruleset(spec.rules));
    for (n, net) in spec.networks.iter().enumerate() {
        if let Some(net) = net {
            network_objects(n, net, &mut out);
        }
    }
    for (s, sandbox) in spec.sandboxes.iter().enumerate() {
        if let Some(sandbox) = sandbox {
            out.insert(Key::Namespace(id(s)), Object::Namespace { loopback: true });
            let ns = Ns::Sandbox(id(s));
            out.insert(Key::Ruleset { ns, table: table() }, ruleset(0));
            for (n, attached) in sandbox.attached.iter().enumerate() {
                if let (Some(lease), Some(net)) = (attached, &spec.networks[n]) {
                    endpoint_objects(n, net, s, *lease, &mut out);
                }
            }
        }
    }
    out
}

fn element(set: &str, ifname: &Name) -> Key {
    let element = vec![Datum::Ifname(ifname.clone())];
    Key::SetElement { ns: Ns::Host, table: table(), set: name(set), element }
}

fn bridge(n: usize) -> Key {
    Key::Link { rank: LinkRank::Bridge, ns: Ns::Host, name: name(format!("br{n}")) }
}

fn mode(net: &Net) -> Ipv6 {
    if net.ipv6 { Ipv6::Static } else { Ipv6::Off }
}

fn network_objects(n: usize, net: &Net, out: &mut Desired) {
    let link = name(format!("br{n}"));
    let verdict = if net.drop { Verdict::Drop } else { Verdict::Accept };
    out.insert(element("bridges", &link), Object::SetElement(None));
    out.insert(element("same", &link), Object::SetElement(Some(Value::Verdict(verdict))));
    out.insert(Key::Sysctl { ns: Ns::Host, name: name("net/ipv4/ip_forward") }, Object::Sysctl(name("1")));
    let object = Link {
        kind: LinkKind::Bridge,
        id: name(format!("network{n}")),
        mtu: net.mtu,
        mac: None,
        up: true,
        master: None,
        port: BridgePort::default(),
        ipv6: mode(net),
    };
    out.insert(bridge(n), Object::Link(object));
    let address = format!("10.0.{n}.1/24").parse().unwrap();
    out.insert(Key::Address { ns: Ns::Host, link: link.clone(), address }, Object::Address);
    if net.ipv6 {
        let address = format!("fd00:{n}::1/64").parse().unwrap();
        out.insert(Key::Address { ns: Ns::Host, link, address }, Object::Address);
    }
}

fn endpoint_objects(n: usize, net: &Net, s: usize, (lease, generation): (u8, u8), out: &mut Desired) {
    let (host, ns) = (name(format!("cw{n}{s}")), Ns::Sandbox(id(s)));
    let inside = name(format!("eth{n}{generation}"));
    let mac = MacAddress([2, 0x42, 10, 0, n as u8, lease]);
    let peer = Peer {
        ns: ns.clone(),
        name: inside.clone(),
        mtu: net.mtu,
        mac: Some(mac),
        up: true,
        master: None,
        ipv6: mode(net),
    };
    let object = Link {
        kind: LinkKind::Veth { peer: Some(peer) },
        id: name(format!("endpoint{n}{s}")),
        mtu: net.mtu,
        mac: None,
        up: true,
        master: Some(name(format!("br{n}"))),
        port: BridgePort { isolated: net.isolated, ..BridgePort::default() },
        ipv6: Ipv6::Off,
    };
    let key = Key::Link { rank: LinkRank::Veth, ns: Ns::Host, name: host.clone() };
    out.insert(key, Object::Link(object));
    let address = format!("10.0.{n}.{lease}/24").parse().unwrap();
    out.insert(Key::Address { ns: ns.clone(), link: inside.clone(), address }, Object::Address);
    let setting = name(format!("net/ipv4/conf/{inside}/arp_ignore"));
    let key = Key::LinkSysctl { ns: ns.clone(), link: inside.clone(), name: setting };
    out.insert(key, Object::Sysctl(name("2")));
    let address = format!("10.0.{n}.{lease}").parse().unwrap();
    let neighbour = Key::Neighbour { ns: Ns::Host, link: name(format!("br{n}")), address };
    out.insert(neighbour, Object::Neighbour(Neighbour { mac }));
    out.insert(Key::Fdb { ns: Ns::Host, link: host, mac }, Object::Fdb);
    // The highest network gives the default route.
    let gateway = Some(format!("10.0.{n}.1").parse().unwrap());
    let route = Object::Route(Route { link: inside, gateway, source: None });
    out.insert(Key::Route { ns, destination: "0.0.0.0/0".parse().unwrap(), metric: 0 }, route);
}

/// A kernel in which a specification came true step by step, in the order that keys have.
fn kernel(spec: &Spec) -> FakeKernel {
    let mut kernel = FakeKernel::new();
    let steps: Vec<Operation> =
        desired(spec).into_iter().map(|(key, object)| Operation::Create { key, object }).collect();
    for result in kernel.apply(&steps) {
        result.unwrap();
    }
    kernel
}

/// What no one planned: objects vanish and links go down, by their place in the list of what is.
fn disturb(kernel: &mut FakeKernel, drift: &[(usize, bool)]) {
    for (place, down) in drift {
        let keys: Vec<Key> = kernel.objects().keys().cloned().collect();
        let Some(key) = keys.get(place % keys.len().max(1)) else { return };
        if *down && matches!(key, Key::Link { .. }) {
            kernel.take_down(key);
        } else {
            kernel.vanish(key).unwrap();
        }
    }
}

fn pass(kernel: &mut FakeKernel, desired: &Desired, scope: &Scope) -> Vec<Result<(), KernelError>> {
    let plan = plan(desired, &kernel.observe(scope), scope);
    kernel.apply(&plan.operations)
}

/// What is ours, except for settings (which stay) and for Ethernet addresses that nobody asked for.
fn ours(kernel: &FakeKernel, desired: &Desired) -> Desired {
    let found = kernel.objects().iter().filter(|(_, (owner, _))| *owner == Owner::Ours);
    let mut found: Desired = found.map(|(key, (_, object))| (key.clone(), object.clone())).collect();
    found.retain(|key, _| {
        desired.contains_key(key) || !matches!(key, Key::Sysctl { .. } | Key::LinkSysctl { .. })
    });
    for (key, object) in &mut found {
        if let (Some(Object::Link(Link { mac: None, .. })), Object::Link(link)) = (desired.get(key), object) {
            link.mac = None;
        }
    }
    found
}

fn assert_is(kernel: &FakeKernel, want: &Desired) {
    let have = ours(kernel, want);
    let keys = |d: &Desired| d.keys().cloned().collect::<BTreeSet<_>>();
    let (missing, surplus) = (&keys(want) - &keys(&have), &keys(&have) - &keys(want));
    assert!(missing.is_empty() && surplus.is_empty(), "missing {missing:?}, surplus {surplus:?}");
    assert_eq!(&have, want);
}

fn assert_settled(kernel: &FakeKernel, want: &Desired) {
    assert_is(kernel, want);
    let scope = Scope::all(want);
    let again = plan(want, &kernel.observe(&scope), &scope);
    assert!(again.is_empty(), "a second pass would do {again:?}");
}

fn drift() -> impl Strategy<Value = Vec<(usize, bool)>> {
    prop::collection::vec((any::<usize>(), any::<bool>()), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn one_pass_leads_from_any_state_to_any_state(a in spec(), b in spec(), drift in drift()) {
        let (mut kernel, want) = (kernel(&a), desired(&b));
        disturb(&mut kernel, &drift);
        for result in pass(&mut kernel, &want, &Scope::all(&want)) {
            result.unwrap();
        }
        assert_settled(&kernel, &want);
    }

    #[test]
    fn a_failure_at_any_step_is_made_good_by_the_passes_after(
        a in spec(), b in spec(), drift in drift(),
        failing in prop::collection::btree_set(0..60usize, 1..12),
    ) {
        let (mut kernel, want) = (kernel(&a), desired(&b));
        disturb(&mut kernel, &drift);
        let start = kernel.tried;
        kernel.inject(Some(Box::new(move |n, _| failing.contains(&(n - start)).then_some(12))));
        let mut passes = 0;
        while !pass(&mut kernel, &want, &Scope::all(&want)).is_empty() {
            passes += 1;
            prop_assert!(passes < 20, "it does not settle");
        }
        assert_settled(&kernel, &want);
    }

    #[test]
    fn a_crash_at_any_step_is_made_good_by_the_next_process(a in spec(), b in spec(), done in 0..40usize) {
        let (mut kernel, want) = (kernel(&a), desired(&b));
        let scope = Scope::all(&want);
        let first = plan(&want, &kernel.observe(&scope), &scope);
        kernel.apply(&first.operations[..done.min(first.operations.len())]);
        for result in pass(&mut kernel, &want, &scope) {
            result.unwrap();
        }
        assert_settled(&kernel, &want);
    }

    #[test]
    fn a_change_is_made_by_looking_at_what_it_touches_alone(a in spec(), b in spec()) {
        let (mut kernel, before, want) = (kernel(&a), desired(&a), desired(&b));
        let differs = |key: &&Key| before.get(*key) != want.get(*key);
        let touched: BTreeSet<Key> = before.keys().chain(want.keys()).filter(differs).cloned().collect();
        for result in pass(&mut kernel, &want, &Scope::Keys(touched)) {
            result.unwrap();
        }
        assert_settled(&kernel, &want);
    }

    #[test]
    fn what_hangs_on_a_lost_link_is_made_again_with_it(a in spec(), place in any::<usize>()) {
        let (mut kernel, want) = (kernel(&a), desired(&a));
        let links: Vec<Key> = want.keys().filter(|k| matches!(k, Key::Link { .. })).cloned().collect();
        prop_assume!(!links.is_empty());
        let lost = &links[place % links.len()];
        kernel.vanish(lost).unwrap();
        // A bridge's ports are noticed by themselves: their master changed.
        let Key::Link { name, .. } = lost else { unreachable!() };
        let is_port = |o: &Object| matches!(o, Object::Link(l) if l.master.as_ref() == Some(name));
        let ports = want.iter().filter(|(_, o)| is_port(o)).map(|(key, _)| key.clone());
        let noticed = ports.chain([lost.clone()]).collect();
        for result in pass(&mut kernel, &want, &Scope::Keys(noticed)) {
            result.unwrap();
        }
        assert_settled(&kernel, &want);
    }

    #[test]
    fn what_is_foreign_is_never_touched(a in spec(), b in spec(), n in 0..3usize, other in any::<bool>()) {
        let mut without = a.clone();
        without.networks[n] = None;
        let (mut kernel, want) = (kernel(&without), desired(&b));
        let foreign = foreign_bridge(n, other);
        for (key, object) in &foreign {
            kernel.put_foreign(key.clone(), object.clone()).unwrap();
        }
        let before = foreign_objects(&kernel);
        let scope = Scope::all(&want);
        let plan = plan(&want, &kernel.observe(&scope), &scope);
        prop_assert_eq!(plan.foreign.len(), usize::from(b.networks[n].is_some()));
        for result in kernel.apply(&plan.operations) {
            result.unwrap();
        }
        prop_assert_eq!(foreign_objects(&kernel), before);
        // The networks apart from the one whose name is taken are as they should be.
        let mut apart = b.clone();
        apart.networks[n] = None;
        let mut expected = desired(&apart);
        // A default route that only the missing network could give is not made, and no other one in its place.
        let wanted_elsewhere = |key: &Key| want.get(key) == expected.get(key);
        let fallback: Vec<Key> =
            expected.keys().filter(|k| matches!(k, Key::Route { .. }) && !wanted_elsewhere(k)).cloned().collect();
        let mut have = ours(&kernel, &expected);
        for key in fallback {
            expected.remove(&key);
            have.remove(&key);
        }
        prop_assert_eq!(have, expected);
    }
}

/// A bridge of someone else's under the name of ours, or a link of another kind.
fn foreign_bridge(n: usize, other: bool) -> BTreeMap<Key, Object> {
    let name = name(format!("br{n}"));
    let kind = if other { LinkKind::Other("dummy".into()) } else { LinkKind::Bridge };
    let rank = if other { LinkRank::Other } else { LinkRank::Bridge };
    let link = Link {
        kind,
        id: "".into(),
        mtu: 9000,
        mac: None,
        up: true,
        master: None,
        port: BridgePort::default(),
        ipv6: Ipv6::Other,
    };
    let address = "192.168.7.1/24".parse().unwrap();
    BTreeMap::from([
        (Key::Link { rank, ns: Ns::Host, name: name.clone() }, Object::Link(link)),
        (Key::Address { ns: Ns::Host, link: name, address }, Object::Address),
    ])
}

fn foreign_objects(kernel: &FakeKernel) -> Desired {
    let foreign = kernel.objects().iter().filter(|(_, (owner, _))| *owner == Owner::Foreign);
    foreign.map(|(key, (_, object))| (key.clone(), object.clone())).collect()
}
