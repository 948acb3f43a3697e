//! SIGHUP to `dockerd`: what its file says anew holds from then on, and nobody who is connected notices.

use std::{fs, io::Write, process::Stdio};

use integration_testkit::{Daemon, Host, Running, eventually};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

#[test]
fn settings_change_by_sighup_without_cutting_a_stream_and_stay_when_the_new_ones_are_wrong() {
    let host = Host::new();
    let file = host.daemon_json(r#"{"labels": ["site=here"]}"#);
    let running = host.run_dockerd(&["--config-file", &file]);
    host.import("box");
    let hup = |text: &str| {
        fs::write(&file, text).unwrap();
        kill(Pid::from_raw(running.child.id() as i32), Signal::SIGHUP).unwrap();
    };
    let label = |label: &str| host.docker(&["info", "-f", "{{.Labels}}"]).stdout.contains(label);
    let wait = "until test -e /go; do echo before; sleep 0.1; done; echo after";
    host.docker(&["run", "-d", "--name", "talk", "box", "sh", "-c", wait]).ok();
    host.d("run -d --name cc box sleep 1000");
    let begin = |line: &str| {
        let mut command = host.docker_command();
        command.args(line.split(' ')).stdin(Stdio::piped());
        Running::start(command)
    };
    let (logs, events) =
        (begin("logs -f talk"), begin("events --filter type=daemon --filter type=container"));
    let (mut exec, attached) = (begin("exec -i cc sh -c /bin/cat"), begin("attach --no-stdin talk"));
    let input = exec.child.stdin.as_mut().unwrap();
    input.write_all(b"before\n").unwrap();
    eventually("the exec runs", || host.d("top cc").contains("/bin/cat"));
    eventually("the streams are there", || {
        host.d("exec cc true");
        events.said().contains("exec_die") && [&logs, &attached].iter().all(|s| s.said().contains("before"))
    });
    let before = host.pid(Daemon::Engine).expect("an engine");

    hup(
        r#"{"labels": ["site=there"], "debug": true, "dns": ["192.0.2.53"], "host-gateway-ips": ["192.0.2.99"],
            "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 77, "Hard": 77}}, "no-new-privileges": true,
            "runtimes": {"mine": {"path": "/bin/true"}}, "live-restore": true, "shutdown-timeout": 5}"#,
    );
    eventually("the label is there", || label("site=there"));
    assert_eq!(host.d("info -f {{.Debug}}"), "true");
    assert!(host.d("info -f {{.Runtimes}}").contains("mine"));
    assert!(host.d("run --rm box cat /etc/resolv.conf").contains("192.0.2.53"));
    assert!(host.d("run --rm --add-host up:host-gateway box cat /etc/hosts").contains("192.0.2.99\tup"));
    let inside = host.docker(&["run", "--rm", "box", "sh", "-c", "ulimit -n; cat /proc/self/status"]).ok();
    assert!(inside.starts_with("77\n") && inside.contains("NoNewPrivs:\t1"), "{inside}");

    // Only the engine can judge this one.
    hup(r#"{"labels": ["site=third"], "default-runtime": "nope"}"#);
    let refused = "causeway_engine::reload: goes on with the settings";
    eventually("it is refused", || running.complained().contains(refused));
    assert!(label("site=there"));
    assert_eq!(host.pid(Daemon::Engine), Some(before), "the engine was started again");

    input.write_all(b"after\n").unwrap();
    drop(exec.child.stdin.take());
    assert_eq!(exec.finish().ok(), "before\nafter");
    host.d("exec talk touch /go");
    assert_eq!(logs.finish().ok(), host.d("logs talk"));
    assert!(attached.finish().ok().ends_with("before\nafter"));
    eventually("the end is told", || host.d("inspect -f {{.State.Running}} talk") == "false");
    let told = events.end().stdout;
    let reload = told.lines().find(|line| line.contains("daemon reload")).expect("an event");
    assert!(reload.contains("site=there") && told.contains("container die"), "{told}");

    // What was refused is not what the next one begins with.
    host.kill(Daemon::Engine);
    eventually("another engine answers", || label("site=there"));
    assert_eq!(host.d("inspect -f {{.State.Running}} cc"), "true");
    let said = running.end().stderr;
    assert!(said.contains("default-runtime"), "{said}");
    host.purge_dockerd().ok();
}
