//! A container's life, by the docker CLI.

use integration_testkit::{Host, Running, eventually};

#[test]
fn run_prints_what_the_process_says_and_exits_with_its_status() {
    let host = Host::with_image();
    let finished = host.docker(&["run", "--rm", "box", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((finished.code(), finished.stdout.as_str(), finished.stderr.as_str()), (7, "out\n", "err\n"));
    assert_eq!(host.d("ps -aq"), "");
}

#[test]
fn run_takes_the_options_of_everyday() {
    let host = Host::with_image();
    let run = |args: &[&str]| host.docker(&[&["run", "--rm"], args].concat()).ok();
    assert_eq!(run(&["-e", "A=b c", "box", "sh", "-c", "echo $A"]), "b c");
    assert_eq!(run(&["-w", "/some/where", "box", "pwd"]), "/some/where");
    assert_eq!(
        run(&["-u", "alice", "box", "id"]),
        "uid=1000(alice) gid=1000(alice) groups=50(staff),1000(alice)"
    );
    assert_eq!(run(&["-u", "7:8", "box", "id", "-u"]), "7");
    assert_eq!(run(&["--entrypoint", "echo", "box", "hello"]), "hello");
    assert_eq!(run(&["--hostname", "zebra", "box", "hostname"]), "zebra");
    assert_eq!(run(&["--read-only", "box", "sh", "-c", "touch /x 2>/dev/null || echo no"]), "no");
    assert!(run(&["--add-host", "db:10.1.2.3", "box", "cat", "/etc/hosts"]).contains("10.1.2.3\tdb"));
    assert!(run(&["--tmpfs", "/scratch:size=1m", "box", "mount"]).contains("/scratch type tmpfs"));
    assert_eq!(run(&["--ulimit", "nofile=123:456", "box", "sh", "-c", "ulimit -n"]), "123");
    assert_eq!(
        run(&["--sysctl", "net.ipv4.ip_default_ttl=33", "box", "cat", "/proc/sys/net/ipv4/ip_default_ttl"]),
        "33"
    );
    assert_eq!(run(&["--runtime", "runc", "box", "echo", "by runc"]), "by runc");
}

#[test]
fn a_container_is_confined_as_docker_confines_it() {
    let host = Host::with_image();
    let status = host.d("run --rm box cat /proc/self/status");
    assert!(status.contains("CapEff:\t00000000a80425fb"), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    // The real-time signals that the C library keeps to itself come from wherever the tests were started.
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & 0x7fff_ffff, 0, "{ignored}");
    assert_eq!(host.docker(&["run", "--rm", "box", "sh", "-c", "wc -c < /proc/timer_list"]).ok(), "0");
    host.docker(&["run", "--rm", "box", "mount", "-t", "tmpfs", "none", "/tmp"]).err();
    host.d("run --rm --privileged box mount -t tmpfs none /tmp");
    let dropped = host.d("run --rm --cap-drop ALL box cat /proc/self/status");
    assert!(dropped.contains("CapEff:\t0000000000000000"), "{dropped}");
    let own = host.docker(&["run", "--rm", "box", "sh", "-c", "echo $$; ls /proc | grep -c '^[0-9]'"]).ok();
    assert!(own.starts_with("1\n"), "{own}");
}

#[test]
fn a_memory_limit_kills_what_exceeds_it_and_says_so() {
    let host = Host::with_image();
    let finished = host.docker(&["run", "--name", "big", "-m", "16m", "box", "sh", "-c", "tail /dev/zero"]);
    assert_eq!(finished.code(), 137, "{finished}");
    assert_eq!(host.inspect("big")["State"]["OOMKilled"], true);
}

#[test]
fn a_command_that_does_not_exist_is_reported_as_docker_reports_it() {
    let host = Host::with_image();
    let finished = host.docker(&["run", "--rm", "box", "nonsense"]);
    assert_eq!(finished.code(), 127, "{finished}");
    assert!(finished.stderr.contains("exec: \"nonsense\": executable file not found in $PATH"), "{finished}");
    assert_eq!(host.docker(&["run", "--rm", "box", "/etc/passwd"]).code(), 126);
    assert_eq!(host.d("ps -aq"), "");
}

#[test]
fn a_detached_container_is_started_stopped_killed_restarted_and_removed() {
    let host = Host::with_image();
    let script = "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done";
    let id = host.docker(&["run", "-d", "--name", "cc", "box", "sh", "-c", script]).ok();
    assert_eq!(id.len(), 64);
    eventually("it runs", || host.d("logs cc") == "up");
    assert_eq!(host.d("ps --filter status=running --format {{.Names}}"), "cc");
    host.d("stop cc");
    assert_eq!(host.inspect("cc")["State"]["ExitCode"], 3);
    host.d("start cc");
    host.d("restart -t 0 cc");
    assert_eq!(host.inspect("cc")["State"]["Running"], true);
    let refused = host.docker(&["rm", "cc"]).err();
    assert!(refused.contains("container is running"), "{refused}");
    host.d("kill cc");
    assert_eq!(host.d("wait cc"), "137");
    host.d("rename cc dd");
    assert_eq!(host.inspect("dd")["Name"], "/dd");
    host.d("rm dd");
    assert!(host.docker(&["inspect", "dd"]).err().contains("No such object: dd"));
}

#[test]
fn ps_filters_by_name_status_label_network_and_ancestor() {
    let host = Host::with_image();
    host.d("network create --subnet 10.91.0.0/24 net");
    host.d("run -d --name one --label tier=web --network net box sleep 1000");
    host.d("run -d --name two box sleep 1000");
    host.d("run --name three box true");
    let ps = |filter: &str| {
        let mut names: Vec<String> = host
            .d(&format!("ps -a --format {{{{.Names}}}} --filter {filter}"))
            .lines()
            .map(Into::into)
            .collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(ps("name=o"), "one two");
    assert_eq!(ps("status=exited"), "three");
    assert_eq!(ps("label=tier=web"), "one");
    assert_eq!(ps("network=net"), "one");
    assert_eq!(ps("ancestor=box"), "one three two");
    assert_eq!(ps("exited=0"), "three");
    let unknown = host.docker(&["ps", "--filter", "nonsense=1"]).err();
    assert!(unknown.contains("invalid filter 'nonsense'"), "{unknown}");
}

#[test]
fn logs_are_kept_and_followed_to_the_end() {
    let host = Host::with_image();
    host.docker(&[
        "run",
        "--name",
        "cc",
        "box",
        "sh",
        "-c",
        "for i in $(seq 1 100); do echo line $i; done; echo oops >&2",
    ])
    .ok();
    let all = host.docker(&["logs", "cc"]);
    assert_eq!((all.stdout.lines().count(), all.stderr.as_str()), (100, "oops\n"));
    assert_eq!(host.docker(&["logs", "--tail", "3", "cc"]).stdout, "line 99\nline 100\n");
    let stamped = host.docker(&["logs", "-t", "--tail", "1", "cc"]).stderr;
    assert!(stamped.starts_with("20") && stamped.ends_with("Z oops\n"), "{stamped}");
    assert_eq!(host.d("logs --since 2100-01-01T00:00:00Z cc"), "");

    host.docker(&[
        "run",
        "-d",
        "--name",
        "ff",
        "box",
        "sh",
        "-c",
        "echo first; while ! test -e /tmp/go; do sleep 0.05; done; echo last",
    ])
    .ok();
    let mut command = host.docker_command();
    command.args(["logs", "-f", "ff"]);
    let follower = Running::start(command);
    host.d("exec ff touch /tmp/go");
    assert_eq!(follower.finish().ok(), "first\nlast");
}

#[test]
fn exec_runs_beside_the_first_process_and_returns_its_status() {
    let host = Host::with_image();
    host.d("run -d --name cc -e WHO=me box sleep 1000");
    assert_eq!(host.docker(&["exec", "cc", "sh", "-c", "echo $WHO; exit 9"]).code(), 9);
    assert_eq!(
        host.docker(&[
            "exec",
            "-e",
            "A=1",
            "-w",
            "/etc",
            "-u",
            "alice",
            "cc",
            "sh",
            "-c",
            "echo $A $PWD $(id -un)"
        ])
        .ok(),
        "1 /etc alice"
    );
    let large = vec![b'x'; 1 << 20];
    assert_eq!(host.docker_with_input(&["exec", "-i", "cc", "wc", "-c"], &large).ok(), "1048576");
    host.d("exec -d cc touch /tmp/detached");
    eventually("the detached command ran", || {
        host.docker(&["exec", "cc", "test", "-e", "/tmp/detached"]).code() == 0
    });
    assert_eq!(host.docker(&["exec", "cc", "nonsense"]).code(), 127);
    assert!(host.d("top cc").contains("sleep 1000"));
    host.d("stop -t 0 cc");
    let stopped = host.docker(&["exec", "cc", "true"]).err();
    assert!(stopped.contains("is not running"), "{stopped}");
}

#[test]
fn stdin_reaches_the_process_and_its_end_too() {
    let host = Host::with_image();
    let large = vec![b'y'; 3 << 20];
    assert_eq!(host.docker_with_input(&["run", "-i", "--rm", "box", "wc", "-c"], &large).ok(), "3145728");
    assert_eq!(host.docker_with_input(&["run", "-i", "--rm", "box", "cat"], b"through\n").ok(), "through");
}

#[test]
fn nothing_that_a_short_container_prints_is_lost() {
    let host = Host::with_image();
    let finished = host.docker(&["run", "--rm", "box", "sh", "-c", "seq 1 200000"]);
    assert_eq!(finished.stdout.lines().count(), 200_000);
    assert!(finished.stdout.ends_with("200000\n"));
}

#[test]
fn attach_joins_a_running_container() {
    let host = Host::with_image();
    host.docker(&["run", "-di", "--name", "cc", "box", "sh", "-c", "read line; echo got $line; exit 4"]).ok();
    let finished = host.docker_with_input(&["attach", "cc"], b"word\n");
    assert_eq!((finished.code(), finished.stdout.as_str()), (4, "got word\n"), "{finished}");
}

#[test]
fn volumes_and_binds_hold_what_is_written() {
    let host = Host::with_image();
    host.docker(&[
        "run",
        "--rm",
        "-v",
        "data:/www",
        "box",
        "sh",
        "-c",
        "cat /www/index.html; echo kept > /www/new",
    ])
    .ok();
    assert_eq!(host.d("run --rm --mount type=volume,src=data,dst=/d box cat /d/new"), "kept");
    let folder = host.scratch().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let bind = format!("{}:/in", folder.display());
    host.docker(&["run", "--rm", "-v", &bind, "box", "sh", "-c", "echo from inside > /in/file"]).ok();
    assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "from inside\n");
    let read_only = format!("{bind}:ro");
    host.docker(&["run", "--rm", "-v", &read_only, "box", "touch", "/in/other"]).err();
    let missing =
        host.docker(&["run", "--rm", "--mount", "type=bind,src=/no/such/place,dst=/x", "box", "true"]).err();
    assert!(missing.contains("/no/such/place"), "{missing}");
    assert!(host.d("volume ls -q").contains("data"));
    host.d("volume rm data");
}

#[test]
fn a_restart_policy_starts_again_what_failed() {
    let host = Host::with_image();
    host.docker(&["run", "-d", "--name", "cc", "--restart", "on-failure:2", "box", "sh", "-c", "exit 1"])
        .ok();
    eventually("it was restarted twice and given up", || {
        let inspect = host.inspect("cc");
        inspect["RestartCount"] == 2 && inspect["State"]["Status"] == "exited"
    });
}

#[test]
fn events_tell_what_happened_in_order() {
    let host = Host::with_image();
    host.d("run --rm --name cc box true");
    host.d("network create --subnet 10.92.0.0/24 net");
    host.d("network rm net");
    let seen = host.d("events --since 0 --until 0s --format {{.Type}}:{{.Action}}");
    let seen: Vec<&str> = seen.lines().collect();
    let mut at = 0;
    for expected in [
        "container:create",
        "network:connect",
        "container:start",
        "container:die",
        "container:destroy",
        "network:create",
        "network:destroy",
    ] {
        match seen[at..].iter().position(|line| *line == expected) {
            Some(found) => at += found,
            None => panic!("no {expected} after {:?} in {seen:?}", &seen[..at]),
        }
    }
}

#[test]
fn what_is_unknown_or_taken_is_named() {
    let host = Host::with_image();
    let api = host.api();
    host.d("run -d --name cc box sleep 1000");
    let create =
        |query: &str, body: serde_json::Value| api.post(&format!("/v1.51/containers/create{query}"), &body);
    let json = serde_json::json!({"Image": "box", "Cmd": ["true"]});
    for (answer, status, says) in [
        (create("", serde_json::json!({"Image": "missing:1"})), 404, "missing:1"),
        (create("?name=cc", json.clone()), 409, "/cc"),
        (create("?name=-bad-", json.clone()), 400, "-bad-"),
        (api.request("POST", "/v1.51/containers/create", "application/json", b"{oops"), 400, "invalid"),
        (
            create(
                "",
                serde_json::json!({"Image": "box", "Cmd": ["true"], "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "99999"}]}}}),
            ),
            400,
            "99999",
        ),
        (
            create(
                "",
                serde_json::json!({"Image": "box", "Cmd": ["true"], "HostConfig": {"PortBindings": {"80/xyz": [{}]}}}),
            ),
            400,
            "xyz",
        ),
        (
            create(
                "",
                serde_json::json!({"Image": "box", "Cmd": ["true"], "HostConfig": {"Binds": ["relative/../path:x:y:z"]}}),
            ),
            400,
            "relative",
        ),
        (api.get("/v1.51/containers/nope/json"), 404, "nope"),
        (api.post("/v1.51/containers/nope/start", &serde_json::json!({})), 404, "nope"),
        (api.get("/v1.51/images/nope/json"), 404, "nope"),
        (api.get("/v1.51/networks/nope"), 404, "nope"),
        (api.get("/v1.99/_ping"), 400, "1.99"),
        (api.get("/v1.51/no/such/route"), 404, "page not found"),
    ] {
        assert!(answer.message().contains(says), "{says}: {}", answer.message());
        assert_eq!(answer.status, status, "{}", answer.message());
    }
    let text = host.docker(&["run", "--rm", "--network", "nope", "box", "true"]).err();
    assert!(text.contains("network nope not found"), "{text}");
    assert_eq!(host.d("ps -q").lines().count(), 1);
}

#[test]
fn links_on_the_default_bridge_are_variables_and_lines_that_follow() {
    let host = Host::with_image();
    host.d("run -d --name db -e FOO=bar --expose 70-72/udp -p 8089:80 box sleep 1000");
    host.d("run -d --name app --link db:my-db -e MY_DB_ENV_FOO=own box sleep 1000");
    let address = host.address("db", "bridge");
    let said = host.d("exec app env");
    for line in [
        format!("MY_DB_PORT=tcp://{address}:80"),
        format!("MY_DB_PORT_80_TCP_ADDR={address}"),
        "MY_DB_PORT_70_UDP_PORT_END=72".to_owned(),
        "MY_DB_NAME=/app/my-db".to_owned(),
        "MY_DB_ENV_FOO=own".to_owned(),
    ] {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
    assert_eq!(host.inspect("app")["HostConfig"]["Links"][0], "/db:/app/my-db");
    let line =
        |address: &str| format!("{address}\tmy-db {} db", host.d("inspect -f {{.Config.Hostname}} db"));
    assert!(host.d("exec app cat /etc/hosts").contains(&line(&address)));
    // It comes back elsewhere.
    host.d("network disconnect bridge db");
    host.d("run -d --name filler box sleep 1000");
    host.d("network connect bridge db");
    let moved = host.address("db", "bridge");
    assert_ne!(moved, address);
    assert!(host.d("exec app cat /etc/hosts").contains(&line(&moved)));
    host.d("exec app ping -c 1 -W 60 my-db");
    host.d("stop -t 0 db");
    let refused = host.docker(&["run", "--rm", "--link", "db:x", "box", "true"]).err();
    assert!(refused.contains("Cannot link to a non running container: /db AS "), "{refused}");
}
