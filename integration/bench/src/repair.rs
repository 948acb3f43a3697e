//! How long the network stays broken after somebody broke it.

use std::time::{Duration, Instant};

use integration_testkit::Host;

use crate::{
    engine::{Engine, IMAGE, Samples},
    report::{Figure, Unit},
};

const NETWORK: &str = "cw-bench-repaired";
const CONTAINER: &str = "cw-bench-hurt";
const ROUNDS: usize = 10;
/// Longer than this is as good as never.
const LIMIT: Duration = Duration::from_secs(40);

/// From the command that breaks something to the first look that finds it whole. The look's own time, some milliseconds,
/// counts too.
pub(crate) fn figures(host: &Host, ours: &Engine) -> Vec<Figure> {
    let create = ["network", "create", "--subnet", "10.76.0.0/24", "-o"];
    ours.docker(&[&create[..], &["com.docker.network.bridge.name=cw-bench-br", NETWORK]].concat());
    ours.docker(&["run", "-d", "--name", CONTAINER, "--network", NETWORK, IMAGE, "sleep", "10000"]);
    let namespace = ours.namespace(CONTAINER);
    let inside = |line: &str| format!("nsenter --net={} sh -c '{line}'", namespace.display());
    let routed = inside("ip -4 route get 192.0.2.9");
    let damages = [
        (
            "nft flush ruleset",
            "nft flush ruleset".to_owned(),
            "nft list chain inet causeway forward".to_owned(),
        ),
        ("a bridge deleted", "ip link del cw-bench-br".to_owned(), inside("ping -c1 -W0.05 10.76.0.1")),
        ("a container's link deleted", inside("ip link del eth0"), routed.clone()),
        ("a container's default route deleted", inside("ip route del default"), routed),
        (
            "a container's resolver rules flushed",
            inside("nft flush ruleset"),
            inside("nft list chain ip causeway resolver | grep -q 61053"),
        ),
    ];
    let figures = damages.map(|(what, damage, look)| {
        let mut samples = Samples::default();
        for _ in 0..ROUNDS {
            host.host.sh(&damage).ok();
            let since = Instant::now();
            while !host.host.sh(&look).status.success() {
                assert!(since.elapsed() < LIMIT, "{what}: not repaired after {LIMIT:?}");
            }
            samples.add(since.elapsed());
        }
        Figure::new(&format!("{what}, until it is repaired"), Unit::Milliseconds, samples.median_ms(), None)
    });
    ours.docker(&["rm", "-f", CONTAINER]);
    ours.docker(&["network", "rm", NETWORK]);
    figures.into()
}
