//! What containers and clients keep of networks that come, go and change without them.

use integration_testkit::{Host, eventually};
use serde_json::json;

#[test]
fn an_address_stays_a_stopped_container_s_own_on_the_next_network_of_that_name() {
    let host = Host::with_image();
    let make = || host.d("network create --subnet 10.81.0.0/29 net");
    make();
    host.d("create --name still --network net --ip 10.81.0.2 box sleep 1000");
    host.d("network rm net");
    make();
    host.d("run -d --name other --network net box sleep 1000");
    assert_eq!(host.address("other", "net"), "10.81.0.3");
    host.d("start still");
    assert_eq!(host.address("still", "net"), "10.81.0.2");

    // Also of one that was made before its network.
    host.d("create --name early --network later --ip 10.82.0.2 box sleep 1000");
    host.d("network create --subnet 10.82.0.0/29 later");
    host.d("run -d --name first --network later box sleep 1000");
    host.d("start early");
    assert_eq!(host.address("early", "later"), "10.82.0.2");
    // What goes leaves nothing behind.
    host.d("rm -f early");
    host.d("run -d --name second --network later box sleep 1000");
    assert_eq!(host.address("second", "later"), "10.82.0.2");
}

#[test]
fn ports_are_shown_as_a_change_of_their_network_left_them() {
    let host = Host::with_image();
    let set = |setting: &str| {
        let run_dir = host.run_dir().display().to_string();
        host.causeway(&["network", "set", "--run-dir", &run_dir, "net", setting]).ok();
    };
    host.d("network create net");
    host.d("run -d --name server --network net -p 80 box probe serve 80");
    eventually("the server serves", || host.d("logs server").contains("serving"));
    let port = || host.docker(&["port", "server", "80"]).stdout.trim().to_owned();
    let ports = || host.d("ps --format {{.Ports}}");
    assert!(port().starts_with("0.0.0.0:"), "{}", port());
    set("internal=true");
    eventually("nothing is published", || !ports().contains("->"));
    set("internal=false");
    eventually("it is published again", || port().starts_with("0.0.0.0:"));
    let reached = || {
        let address = port();
        let number = address.rsplit_once(':').unwrap().1.to_owned();
        host.client
            .sh(&format!("{} tcp {} {number}", integration_testkit::probe().display(), Host::ADDRESS))
            .code()
            == 0
    };
    eventually("where it is shown", reached);
}

#[test]
fn what_a_client_asked_for_is_done_and_told_although_it_has_hung_up() {
    const ALL: usize = 20;
    let host = Host::with_image();
    let api = host.api();
    let told = |action: &str| {
        let events = "events --since 0 --until 0s --filter type=network";
        host.d(&format!("{events} --filter event={action}")).lines().count()
    };
    for n in 0..ALL {
        api.leave("POST", "/v1.51/networks/create", &json!({"Name": format!("net{n}")}));
    }
    let there = || host.d("network ls -q --filter type=custom").lines().count();
    eventually("all are made", || there() == ALL);
    eventually("all are told", || told("create") == ALL);
    api.leave("POST", "/v1.51/networks/prune", &json!({}));
    eventually("all are removed", || there() == 0);
    eventually("all are told", || told("destroy") == ALL && told("prune") == 1);
}
