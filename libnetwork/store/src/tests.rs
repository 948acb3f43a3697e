use std::{fs, sync::Arc};

use libnetwork_model::{
    Endpoint, EndpointId, NamespaceKind, Network, NetworkId, Opening, PortRange, Protocol, Sandbox, SandboxId,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn network(n: u8) -> Mutation {
    Mutation::PutNetwork(Arc::new(Network {
        id: NetworkId::from_bytes([n; 32]),
        name: format!("net{n}"),
        driver: "bridge".into(),
        created_ns: 1,
        ipv4: true,
        ipv6: false,
        internal: false,
        attachable: false,
        predefined: false,
        config_only: false,
        config_from: None,
        foreign_link: false,
        subnets: Vec::new(),
        idle_subnets: Vec::new(),
        labels: Default::default(),
        options: Default::default(),
        ipam_options: Default::default(),
    }))
}

fn sandbox(n: u8) -> Mutation {
    Mutation::PutSandbox(Arc::new(Sandbox {
        id: SandboxId::from_bytes([n; 32]),
        name: format!("box{n}"),
        owner: String::new(),
        namespace: NamespaceKind::Own,
        resolver: Default::default(),
        wishes: Vec::new(),
        ports: Vec::new(),
    }))
}

fn endpoint(n: u8, network: u8) -> Mutation {
    Mutation::PutEndpoint(Arc::new(Endpoint {
        id: EndpointId::from_bytes([n; 32]),
        network: NetworkId::from_bytes([network; 32]),
        sandbox: SandboxId::from_bytes([n; 32]),
        ifname: "eth0".into(),
        mac: None,
        ipv4: format!("10.0.{network}.{n}/24").parse().ok(),
        ipv6: None,
        aliases: vec!["é\u{0}\"".into()],
        links: [("db".into(), "postgres".into())].into(),
        openings: vec![Opening {
            sandbox: SandboxId::from_bytes([n ^ 0xff; 32]),
            protocol: Protocol::Sctp,
            ports: PortRange::new(1, u16::MAX).unwrap(),
        }],
        gateway_priority: 0,
        segment: 0,
        link_local: Vec::new(),
        options: Default::default(),
    }))
}

struct Place {
    state: TempDir,
    run: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { state: TempDir::new().unwrap(), run: TempDir::new().unwrap() }
    }

    fn open(&self, boot: &str) -> Result<EmbeddedStore, StoreError> {
        EmbeddedStore::open(self.state.path(), self.run.path(), boot)
    }
}

#[test]
fn what_was_committed_is_there_after_the_process() {
    let place = Place::new();
    let mut store = place.open("b1").unwrap();
    assert_eq!(store.commit(0, &[Change(vec![network(1)])]).unwrap(), 1);
    assert_eq!(
        store.commit(1, &[Change(vec![sandbox(7), endpoint(7, 1)]), Change(vec![sandbox(8)])]).unwrap(),
        3
    );
    let before = store.load().unwrap();
    drop(store);
    assert_eq!(place.open("b1").unwrap().load().unwrap(), before);
}

#[test]
fn a_reboot_keeps_networks_and_drops_what_lived_in_the_kernel() {
    let place = Place::new();
    let mut store = place.open("b1").unwrap();
    store.commit(0, &[Change(vec![network(1), sandbox(7), endpoint(7, 1)])]).unwrap();
    drop(store);
    let (revision, intent) = place.open("b2").unwrap().load().unwrap();
    assert_eq!((revision, intent.networks().count(), intent.sandboxes().count()), (1, 1, 0));
    assert_eq!(intent.endpoints().count(), 0);
}

#[test]
fn a_commit_of_both_kinds_is_whole_though_the_journal_never_got_it() {
    let place = Place::new();
    let journal = place.run.path().join("intent.journal");
    let mut store = place.open("b1").unwrap();
    store.commit(0, &[Change(vec![network(1), sandbox(6)])]).unwrap();
    let old = fs::read(&journal).unwrap();
    store.commit(1, &[Change(vec![network(2), sandbox(7), endpoint(7, 2)])]).unwrap();
    let whole = store.load().unwrap();
    drop(store);
    fs::write(&journal, old).unwrap();
    assert_eq!(place.open("b1").unwrap().load().unwrap(), whole);
}

#[test]
fn a_second_instance_is_refused() {
    let place = Place::new();
    let _first = place.open("b1").unwrap();
    assert!(matches!(place.open("b1"), Err(StoreError::Locked { .. })));
}

#[test]
fn another_writer_is_noticed() {
    let mut store = Place::new().open("b1").unwrap();
    assert!(matches!(store.commit(5, &[]), Err(StoreError::Stale { base: 5, found: 0 })));
}

#[test]
fn a_newer_file_is_refused_with_a_clear_error() {
    let place = Place::new();
    drop(place.open("b1").unwrap());
    let path = place.state.path().join("intent.redb");
    {
        let database = redb::Database::create(&path).unwrap();
        let write = database.begin_write().unwrap();
        write
            .open_table(redb::TableDefinition::<&str, u64>::new("meta"))
            .unwrap()
            .insert("format", 99)
            .unwrap();
        write.commit().unwrap();
    }
    let error = place.open("b1").err().unwrap();
    assert!(error.to_string().contains("written by a newer version (format 99"), "{error}");
}

#[test]
fn a_file_whose_making_was_cut_off_is_made_anew_and_no_other_one() {
    let file = |place: &Place| place.state.path().join("intent.redb");
    // As redb leaves it when it is killed: of its length, but without the magic number, which comes last.
    for cut_off in [vec![0; 5], vec![0; 1 << 20]] {
        let place = Place::new();
        fs::write(file(&place), cut_off).unwrap();
        place.open("boot").unwrap();
        place.open("boot").unwrap();
    }
    let place = Place::new();
    fs::write(file(&place), "somebody else's").unwrap();
    assert!(place.open("boot").is_err());
    assert_eq!(fs::read_to_string(file(&place)).unwrap(), "somebody else's");
}

#[test]
fn a_long_journal_is_rewritten() {
    let place = Place::new();
    let mut store = place.open("b1").unwrap();
    store.commit(0, &[Change(vec![network(1)])]).unwrap();
    for step in 0..6000u64 {
        store.commit(1 + step, &[Change(vec![sandbox(7), endpoint(7, 1)])]).unwrap();
    }
    let before = store.load().unwrap();
    assert!(fs::metadata(place.run.path().join("intent.journal")).unwrap().len() < 2 * REWRITE_FROM);
    drop(store);
    assert_eq!(place.open("b1").unwrap().load().unwrap(), before);
}

/// A journal of this boot with a record of this text behind what is there.
fn append(place: &Place, text: &serde_json::Value) -> Vec<u8> {
    let path = place.run.path().join("intent.journal");
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend(crate::journal::frame(text, &path).unwrap());
    fs::write(&path, &bytes).unwrap();
    bytes
}

#[test]
fn a_whole_record_that_is_not_understood_is_an_error_and_stays() {
    let place = Place::new();
    let mut store = place.open("b1").unwrap();
    store.commit(0, &[Change(vec![network(1), sandbox(7)])]).unwrap();
    let before = store.load().unwrap();
    drop(store);
    let path = place.run.path().join("intent.journal");
    let known = fs::read(&path).unwrap();
    let bytes = append(&place, &serde_json::json!({"revision": 2, "mutations": [{"PutTunnel": {}}]}));
    for _ in 0..2 {
        let error = place.open("b1").err().unwrap();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("after revision 1") && text.contains("PutTunnel"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    fs::write(&path, known).unwrap();
    assert_eq!(place.open("b1").unwrap().load().unwrap(), before);
}

/// What the first version wrote of a container with a published port.
#[test]
fn a_record_without_the_fields_that_came_later_is_read_with_their_defaults() {
    let place = Place::new();
    let mut store = place.open("b1").unwrap();
    store.commit(0, &[Change(vec![network(1)])]).unwrap();
    drop(store);
    let (id, on) = ("07".repeat(32), "01".repeat(32));
    let port = serde_json::json!({
        "protocol": "tcp", "host_ip": null, "host_ports": {"first": 80, "last": 80}, "container_port": 80,
    });
    let sandbox = serde_json::json!({
        "id": id, "name": "box7", "owner": id, "namespace": "Own", "ports": [port],
        "resolver": {"servers": [], "search": [], "options": []},
    });
    let endpoint = serde_json::json!({
        "id": id, "network": on, "sandbox": id, "ifname": "eth0", "mac": null, "ipv4": "10.0.1.7/24", "ipv6": null,
        "aliases": [], "gateway_priority": 0, "options": {},
    });
    append(
        &place,
        &serde_json::json!({"revision": 2, "mutations": [{"PutSandbox": sandbox}, {"PutEndpoint": endpoint}]}),
    );
    let (revision, intent) = place.open("b1").unwrap().load().unwrap();
    let endpoint = intent.endpoints().next().unwrap();
    assert_eq!((revision, endpoint.segment, endpoint.openings.len()), (2, 0, 0));
    assert_eq!((endpoint.links.len(), endpoint.link_local.len()), (0, 0));
    let sandbox = intent.sandboxes().next().unwrap();
    assert_eq!((sandbox.wishes.len(), sandbox.ports[0].routed), (0, false));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The journal, cut off at every byte and damaged at some: what is read back is one of the states that were
    /// committed, and one no earlier than what lies whole before the cut.
    #[test]
    fn a_cut_journal_gives_a_prefix(steps in prop::collection::vec((0u8..6, any::<bool>()), 1..8), flip in any::<u16>()) {
        let place = Place::new();
        let path = place.run.path().join("intent.journal");
        let mut store = place.open("b1").unwrap();
        store.commit(0, &[Change(vec![network(1)])]).unwrap();
        let mut states = vec![(fs::metadata(&path).unwrap().len(), store.load().unwrap().1)];
        for (revision, (n, add)) in steps.into_iter().enumerate() {
            let change = if add {
                Change(vec![sandbox(n), endpoint(n, 1)])
            } else {
                Change(vec![
                    Mutation::RemoveEndpoint(EndpointId::from_bytes([n; 32])),
                    Mutation::RemoveSandbox(SandboxId::from_bytes([n; 32])),
                ])
            };
            store.commit(revision as u64 + 1, &[change]).unwrap();
            states.push((fs::metadata(&path).unwrap().len(), store.load().unwrap().1));
        }
        drop(store);
        let whole = fs::read(&path).unwrap();
        let begin = states[0].0 as usize;
        // Reopening the redb file takes milliseconds: the cuts are tried on the journal alone.
        let networks = Intent::default().apply(&Change(vec![network(1)]));
        for cut in begin..=whole.len() {
            let mut bytes = whole[..cut].to_vec();
            if flip % 3 == 0 && cut > begin {
                bytes[cut - 1] ^= 1 << (flip % 8);
            }
            fs::write(&path, &bytes).unwrap();
            let (_, records) = Journal::open(&path, "b1").unwrap();
            let read = networks.apply(&Change(records.into_iter().flat_map(|r| r.mutations).collect()));
            let good = cut - usize::from(flip % 3 == 0 && cut > begin);
            let expected = states.iter().rev().find(|(end, _)| *end as usize <= good).unwrap();
            prop_assert_eq!(&read, &expected.1);
        }
    }
}
