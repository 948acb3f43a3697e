//! hosts, hostname and resolv.conf of a container, and who may write them.

use integration_testkit::Host;

#[test]
fn what_a_container_edits_below_etc_stays_when_its_networks_change() {
    let host = Host::with_image();
    host.d("network create --subnet 10.93.0.0/24 one");
    host.d("network create --subnet 10.94.0.0/24 two");
    host.d("run -d --name cc -h a.b --domainname c.d --network one --ip 10.93.0.9 box sleep 1000");
    let file = |name: &str| host.d(&format!("exec cc cat /etc/{name}"));
    let own = "10.93.0.9\ta.b.c.d a";
    assert!(file("hosts").lines().any(|line| line == own), "{}", file("hosts"));
    let edit = "sed 's/^options.*/options ndots:7/' /etc/resolv.conf >/tmp/r; cat /tmp/r >/etc/resolv.conf; \
                echo '10.93.0.9 mine' >>/etc/hosts; echo edited >/etc/hostname";
    host.docker(&["exec", "cc", "sh", "-c", edit]).ok();
    let (hosts, resolv) = (file("hosts"), file("resolv.conf"));
    host.d("network connect --ip 10.94.0.9 two cc");
    assert_eq!(file("hosts"), format!("{hosts}\n10.94.0.9\ta.b.c.d a"));
    host.d("network disconnect one cc");
    assert_eq!(file("hosts"), format!("{hosts}\n10.94.0.9\ta.b.c.d a").replace(&format!("{own}\n"), ""));
    assert_eq!(file("resolv.conf"), resolv);
    assert_eq!(file("hostname"), "edited");
    // A start begins anew, as in Docker.
    host.d("restart -t 0 cc");
    assert!(!file("hosts").contains("mine"), "{}", file("hosts"));
    assert!(file("resolv.conf").contains("options ndots:0"), "{}", file("resolv.conf"));
}

#[test]
fn an_unedited_resolv_conf_follows_and_says_whence_it_is() {
    let host = Host::with_image();
    host.d("network create net");
    host.d("run -d --name cc --dns 192.0.2.2 box sleep 1000");
    let file = || host.d("exec cc cat /etc/resolv.conf");
    assert!(file().contains("\nnameserver 192.0.2.2\n"), "{}", file());
    assert!(file().contains("(legacy)\n# Overrides: [nameservers]\n"), "{}", file());
    host.d("network connect net cc");
    assert!(file().contains("\nnameserver 127.0.0.11\n"), "{}", file());
    let said = "(internal resolver)\n# ExtServers: [192.0.2.2]\n# Overrides: [nameservers]\n\
                # Option ndots from: internal\n";
    assert!(file().contains(said), "{}", file());
}

#[test]
fn a_link_s_line_follows_its_target_beside_lines_of_the_container_s_own() {
    let host = Host::with_image();
    host.d("run -d --name target -h there box sleep 1000");
    host.d("run -d --name cc --link target:alias box sleep 1000");
    host.docker(&["exec", "cc", "sh", "-c", "echo 192.0.2.9 alias.mine >>/etc/hosts"]).ok();
    let lines = || host.d("exec cc cat /etc/hosts").lines().map(str::to_owned).collect::<Vec<_>>();
    let line = |ip: &str| format!("{ip}\talias there target");
    let before = line(&host.address("target", "bridge"));
    assert!(lines().contains(&before), "{:?}", lines());
    // Off the bridge and on it again: meanwhile somebody else takes the address.
    host.d("network disconnect bridge target");
    host.d("run -d --name other box sleep 1000");
    host.d("network connect bridge target");
    let after = line(&host.address("target", "bridge"));
    assert!(lines().contains(&after), "{:?}", lines());
    assert_eq!(lines().iter().filter(|line| line.contains("there target")).count(), 1);
    assert!(lines().contains(&"192.0.2.9 alias.mine".to_owned()), "{:?}", lines());
}

#[test]
fn a_link_is_removed_and_its_container_stays() {
    let host = Host::with_image();
    host.d("run -d --name target box sleep 1000");
    host.d("run -d --name cc --link target:one --link target:two box sleep 1000");
    let aliases = || {
        let file = host.d("exec cc cat /etc/hosts");
        ["one", "two"].map(|alias| file.contains(&format!("\t{alias} ")))
    };
    assert_eq!(aliases(), [true, true]);
    host.d("rm --link cc/one");
    assert_eq!(aliases(), [false, true]);
    assert_eq!(host.inspect("cc")["HostConfig"]["Links"], serde_json::json!(["/target:/cc/two"]));
    host.d("restart -t 0 cc");
    assert_eq!(aliases(), [false, true]);
    let text = host.docker(&["rm", "--link", "cc/one"]).err();
    assert!(text.contains("No such container: cc/one"), "{text}");
    let text = host.docker(&["rm", "--link", "cc"]).err();
    assert!(text.contains("cannot remove the default link name"), "{text}");
    host.d("rm --link cc/two");
    host.d("inspect target");
}

#[test]
fn a_name_that_was_given_counts_before_the_host_s_own() {
    let host = Host::with_image();
    let own = host.d("run --rm --network host box cat /etc/hosts");
    let given = host.d("run --rm --network host --add-host localhost:192.0.2.9 box cat /etc/hosts");
    assert_eq!(given, format!("192.0.2.9\tlocalhost\n{own}"));
}

#[test]
fn who_shares_a_network_has_the_host_name_that_goes_with_it() {
    let host = Host::with_image();
    host.d("create --name early --network container:late box hostname");
    host.d("run -d --name late -h there.example box sleep 1000");
    host.d("create --name after --network container:late box hostname");
    for name in ["early", "after"] {
        host.d(&format!("start -a {name}"));
        assert_eq!(host.d(&format!("logs {name}")).lines().next(), Some("there.example"), "{name}");
        assert_eq!(host.d(&format!("inspect -f {{{{.Config.Hostname}}}} {name}")), "there.example");
    }
}
