//! A zone against a plain reading of the intent, through random histories.

use std::sync::Arc;

use dns_zone::{Answer, Kind, Zone};
use ipnet::Ipv6Net;
use libnetwork_model::*;
use proptest::{collection::vec, prelude::*};

use super::{
    eid, endpoint, network, nid, put_endpoint, put_network, put_sandbox, sandbox, sid, told, town, v6, zone,
};

const NAMES: [&str; 5] = ["web", "DB", "pool", "a.b", "b"];

fn mutation() -> impl Strategy<Value = Mutation> {
    let name = || prop::sample::select(&NAMES[..]);
    prop_oneof![
        1 => (1..4u8, any::<bool>()).prop_map(|(n, internal)| {
            put_network(Network { internal, ..network(n, ["", "one", "b", "Two.b"][n as usize]) })
        }),
        1 => (1..4u8).prop_map(|n| Mutation::RemoveNetwork(nid(n))),
        3 => (1..5u8, name()).prop_map(|(s, name)| put_sandbox(sandbox(s, name))),
        1 => (1..5u8).prop_map(|s| Mutation::RemoveSandbox(sid(s))),
        8 => (1..4u8, 1..5u8, vec(name(), 0..3), any::<[bool; 2]>(), 0..2i32).prop_map(|(n, s, names, has, prio)| {
            let mut e = endpoint(n, s, &names);
            e.gateway_priority = prio;
            e.ipv4 = e.ipv4.filter(|_| has[0]);
            e.ipv6 = has[1].then(|| Ipv6Net::new(v6(n, s), 64).unwrap());
            put_endpoint(e)
        }),
        3 => (1..4u8, 1..5u8).prop_map(|(n, s)| Mutation::RemoveEndpoint(eid(n, s))),
    ]
}

/// What the sandboxes on the networks of `asking` call themselves, read off the intent without an index.
fn holders<'a>(intent: &'a Intent, asking: &SandboxId, name: &str) -> Vec<&'a Arc<Endpoint>> {
    let shares = |e: &Endpoint| {
        intent.network(&e.network).is_some()
            && intent.endpoints_in(asking).any(|own| own.network == e.network)
    };
    let called = |e: &Endpoint| {
        let network = intent.network(&e.network).unwrap();
        let sandbox = intent.sandbox(&e.sandbox);
        let own = sandbox.map(|s| vec![s.name.clone(), s.owner[..12].to_owned()]).unwrap_or_default();
        e.aliases.iter().cloned().chain(own).any(|n| {
            let n = n.to_lowercase();
            n == name || format!("{n}.{}", network.name.to_lowercase()) == name
        })
    };
    intent.endpoints().filter(|e| shares(e) && called(e)).collect()
}

proptest! {
    #[test]
    fn a_zone_kept_up_to_date_equals_one_made_anew(history in vec(vec(mutation(), 1..6), 1..30)) {
        let mut intent = Intent::default();
        let mut zone = Zone::new(&intent);
        for mutations in history {
            let change = Change(mutations);
            let after = intent.apply(&change);
            zone = zone.apply(&change, &after);
            intent = after;
            prop_assert_eq!(&zone, &Zone::new(&intent));
        }
    }

    #[test]
    fn an_answer_names_holders_on_shared_networks_and_no_one_else(
        mutations in vec(mutation(), 1..60),
        asking in 1..5u8,
        host in prop::sample::select(&["web", "db", "pool", "a.b", "b", "web.one", "b.b", "a.two.b", "nobody"][..]),
    ) {
        let intent = Intent::default().apply(&Change(mutations));
        let zone = Zone::new(&intent);
        let known = holders(&intent, &sid(asking), host);
        for kind in [Kind::A, Kind::Aaaa, Kind::Any, Kind::Other] {
            match told(&zone, &sid(asking), host, kind) {
                Answer::Addresses(list) => {
                    prop_assert!(!list.is_empty());
                    for address in list {
                        prop_assert!(known.iter().any(|e| e.addresses().any(|a| a == address)));
                        prop_assert!(kind != Kind::A || address.is_ipv4());
                        prop_assert!(kind != Kind::Aaaa || address.is_ipv6());
                    }
                }
                Answer::NoData => prop_assert!(!known.is_empty()),
                Answer::NotOurs => prop_assert!(known.is_empty()),
                Answer::Name(name) => prop_assert!(false, "{name}"),
            }
        }
    }

    #[test]
    fn no_name_makes_it_panic(name in "\\PC{0,80}") {
        let zone = zone(town());
        for kind in [Kind::A, Kind::Ptr, Kind::Any] {
            told(&zone, &sid(3), &name, kind);
        }
    }
}
