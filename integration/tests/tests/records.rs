//! What is kept of containers on disk, and what is said of it.

use integration_testkit::{Daemon, Host, eventually, probe, run};

#[test]
fn a_range_is_shown_port_by_port_and_kept_over_the_engines_end_also_as_it_was_kept_before() {
    let mut host = Host::with_image();
    let publish = "-p 8000-8999:1000-1999 -p 127.0.0.1:7000-7001:1000-1001 -p 9000:80";
    host.d(&format!("run -d --name web {publish} box probe serve 80"));
    let said = |host: &Host| {
        let web = host.inspect("web");
        let (config, settings) = (&web["HostConfig"]["PortBindings"], &web["NetworkSettings"]["Ports"]);
        (config.clone(), settings.clone(), web["Config"]["ExposedPorts"].clone(), host.d("port web"))
    };
    let first = said(&host);
    let (bindings, settings, exposed, shown) = &first;
    let place = |ip: &str, port: &str| serde_json::json!({"HostIp": ip, "HostPort": port});
    assert_eq!(bindings["1001/tcp"], serde_json::json!([place("", "8001"), place("127.0.0.1", "7001")]));
    assert_eq!(bindings["1999/tcp"], serde_json::json!([place("", "8999")]));
    assert_eq!(settings["1999/tcp"], serde_json::json!([place("0.0.0.0", "8999"), place("::", "8999")]));
    assert_eq!([bindings, exposed, settings].map(|map| map.as_object().unwrap().len()), [1001; 3]);
    assert_eq!(shown.lines().count(), 2 * 1001 + 2);

    let record = host.state_dir().join("engine/containers").join(host.inspect("web")["Id"].as_str().unwrap());
    let record = record.join("config.json");
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(text.len() < 8 << 10, "{} bytes for a thousand ports: {text}", text.len());
    host.kill(Daemon::Engine);
    eventually("the engine is back", || host.docker(&["ps"]).status.success());
    assert_eq!(said(&host), first);

    // As engines wrote it that knew no ranges.
    host.stop();
    let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
    old["host"]["PortBindings"] = first.0.clone();
    old["config"]["ExposedPorts"] = first.2.clone();
    std::fs::write(&record, old.to_string()).unwrap();
    host.start();
    assert_eq!(said(&host), first);
    let answers = || {
        let mut command = host.client.command(probe().to_str().unwrap());
        command.args(["tcp", Host::ADDRESS, "9000"]);
        run(command, b"").status.success()
    };
    assert!(answers(), "{}", host.log_tail());
    host.d("restart -t 0 web");
    eventually("the port is open", answers);
    assert_eq!(said(&host), first);
}
