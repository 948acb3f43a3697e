//! Containers that run, end, and are found again.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::{fs, path::Path};

use engine_runtime::{AttachOptions, IoConfig, NamespaceMode, RuntimeError, StartFailure, Status};
use support::{Place, collect, expect, run, until};

#[test]
fn a_container_runs_to_its_end() {
    run(|| async {
        let place = Place::new();
        let (out, err, exit) = place.run("a", &place.sh("echo out; echo err >&2; hostname; exit 7")).await;
        assert_eq!((out.as_str(), err.as_str()), ("out\nbox\n", "err\n"));
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (7, None, false));
        let mut log = place.log("a");
        log.sort();
        let expected = [("stderr", "err\n"), ("stdout", "box\n"), ("stdout", "out\n")];
        assert_eq!(log, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(place.runtime.list().await.unwrap(), Vec::<String>::new());
    });
}

#[test]
fn a_signal_ends_a_container() {
    run(|| async {
        let place = Place::new();
        let task = place.start("a", &place.spec(&["sleep", "1000"])).await;
        assert_eq!(task.state().await.unwrap().status, Status::Running);
        task.kill(9).await.unwrap();
        let exit = task.wait().await.unwrap();
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
        assert!(task.kill(9).await.is_err());
        assert_eq!(task.state().await.unwrap().status, Status::Exited);
        task.delete().await.unwrap();
        let script = "trap 'echo bye; exit 3' TERM; echo ready; while true; do sleep 0.05; done";
        let task = place.runtime.create("a", &place.sh(script), &place.io("a")).await.unwrap();
        let mut attach = task.attach(AttachOptions::default()).await.unwrap();
        task.start().await.unwrap();
        // Before it has its handler, the first process of a PID namespace ignores the signal.
        expect(&mut attach.output, "ready").await;
        task.kill(15).await.unwrap();
        assert_eq!(task.wait().await.unwrap().code, 3);
        task.delete().await.unwrap();
    });
}

#[test]
fn a_program_that_cannot_run_is_told_apart() {
    run(|| async {
        let place = Place::new();
        let cases = [
            ("foo", StartFailure::NotFound, "exec: \"foo\": executable file not found in $PATH"),
            ("/foo", StartFailure::NotFound, "exec: \"/foo\": stat /foo: no such file or directory"),
            (
                "/etc/not-a-program",
                StartFailure::NotExecutable,
                "exec: \"/etc/not-a-program\": permission denied",
            ),
            ("/etc", StartFailure::NotExecutable, "exec: \"/etc\": is a directory"),
        ];
        for (program, failure, text) in cases {
            let error = place.runtime.create("a", &place.spec(&[program]), &place.io("a")).await.unwrap_err();
            assert_eq!(error.start_failure(), failure, "{error}");
            let message = error.docker_start_message();
            assert!(message.contains(text), "{message}");
            assert!(
                message.starts_with("failed to create task for container: failed to create shim task: OCI ")
            );
            assert_eq!(place.runtime.list().await.unwrap(), Vec::<String>::new());
        }
    });
}

#[test]
fn a_container_outlives_its_engine() {
    run(|| async {
        let place = Place::new();
        let script = "echo before; read line; echo got $line; exit 5";
        let io = IoConfig { stdin: engine_runtime::Stdin::Open, ..place.io("a") };
        let task = place.runtime.create("a", &place.sh(script), &io).await.unwrap();
        task.start().await.unwrap();
        let mut attach = task.attach(AttachOptions { stdin: true, ..Default::default() }).await.unwrap();
        drop((task, attach.input));
        attach.output = {
            drop(attach.output);
            let task = place.another_runtime().adopt("a").await.unwrap().unwrap();
            assert_eq!(task.state().await.unwrap().status, Status::Running);
            let mut again = task.attach(AttachOptions { stdin: true, ..Default::default() }).await.unwrap();
            again.input.write(b"hello\n").await.unwrap();
            assert!(expect(&mut again.output, "hello").await.ends_with("got hello\n"));
            again.output
        };
        assert_eq!(attach.output.next().await.unwrap(), None);
        let task = place.another_runtime().adopt("a").await.unwrap().unwrap();
        assert_eq!(task.wait().await.unwrap().code, 5);
        let texts: Vec<_> = place.log("a").into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["before\n", "got hello\n"]);
        task.delete().await.unwrap();
        assert!(place.another_runtime().adopt("a").await.unwrap().is_none());
    });
}

#[test]
fn what_a_killed_shim_leaves_is_found_and_removed() {
    run(|| async {
        let place = Place::new();
        let task = place.start("a", &place.spec(&["sleep", "1000"])).await;
        let pid = task.pid();
        let shim = task.state().await.unwrap().shim_pid;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::SIGKILL).unwrap();
        assert!(matches!(task.wait().await, Err(RuntimeError::ShimGone(_))));
        let task = place.another_runtime().adopt("a").await.unwrap().unwrap();
        assert_eq!(task.wait().await.unwrap().code, 255);
        until("the container is dead", || !Path::new(&format!("/proc/{pid}/ns")).exists()).await;
        task.delete().await.unwrap();
        assert_eq!(place.runtime.list().await.unwrap(), Vec::<String>::new());
    });
}

#[test]
fn an_exit_that_nobody_saw_is_on_file() {
    run(|| async {
        let place = Place::new();
        let task = place.start("a", &place.sh("exit 9")).await;
        task.wait().await.unwrap();
        let shim = task.state().await.unwrap().shim_pid;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::SIGKILL).unwrap();
        let found = place.another_runtime().adopt("a").await.unwrap().unwrap();
        assert_eq!(found.wait().await.unwrap().code, 9);
        assert_eq!(task.wait().await.unwrap().code, 9, "also for who was connected");
        assert_eq!(found.state().await.unwrap().status, Status::Exited);
        found.delete().await.unwrap();
    });
}

#[test]
fn a_half_made_container_is_no_container() {
    run(|| async {
        let place = Place::new();
        fs::create_dir_all(place.path().join("shims/half")).unwrap();
        assert!(place.runtime.adopt("half").await.unwrap().is_none());
        assert!(place.runtime.adopt("never").await.unwrap().is_none());
        assert_eq!(place.runtime.list().await.unwrap(), Vec::<String>::new());
    });
}

#[test]
fn pausing_stops_and_resuming_continues() {
    run(|| async {
        let place = Place::new();
        let task = place.start("a", &place.sh("while true; do echo tick; sleep 0.01; done")).await;
        task.pause().await.unwrap();
        assert_eq!(task.state().await.unwrap().status, Status::Paused);
        let mut attach = task.attach(AttachOptions::default()).await.unwrap();
        // What was in the pipe before may still come.
        while tokio::time::timeout(std::time::Duration::from_millis(100), attach.output.next()).await.is_ok()
        {
        }
        task.resume().await.unwrap();
        expect(&mut attach.output, "tick").await;
        task.pause().await.unwrap();
        task.delete().await.unwrap();
    });
}

#[test]
fn purge_leaves_nothing() {
    run(|| async {
        let place = Place::new();
        let mut pids = Vec::new();
        for id in ["a", "b", "c"] {
            let mut spec = place.sh("sleep 1000 & sleep 1000");
            if id == "b" {
                spec.pid = NamespaceMode::Host;
            }
            let task = place.start(id, &spec).await;
            pids.push(task.state().await.unwrap().shim_pid);
            until("all run", || processes(&place, id) >= 2).await;
            pids.extend(task.pids().await.unwrap());
        }
        // One whose shim is dead already.
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pids[0]), nix::sys::signal::SIGKILL).unwrap();
        assert!(pids.len() >= 9 && !place.cgroups().is_empty());
        assert!(engine_runtime::purge(place.path(), &place.cgroup_parent).is_empty());
        for pid in pids {
            until("all are dead", || !Path::new(&format!("/proc/{pid}/ns")).exists() || zombie(pid)).await;
        }
        assert!(!place.path().join("shims").exists());
        assert!(place.cgroups().is_empty());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(place.path().to_str().unwrap()));
    });
}

fn processes(place: &Place, id: &str) -> usize {
    let hierarchies = engine_protocol::cgroup::Hierarchies::detect().unwrap();
    hierarchies.group(&format!("/{}/{id}", place.cgroup_parent)).processes().len()
}

fn zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn what_shares_the_hosts_pids_dies_with_its_container() {
    run(|| async {
        let place = Place::new();
        let spec =
            engine_runtime::ContainerSpec { pid: NamespaceMode::Host, ..place.sh("sleep 1000 & echo $!") };
        let (out, _, exit) = place.run("a", &spec).await;
        assert_eq!(exit.code, 0);
        let pid: i32 = out.trim().parse().unwrap();
        until("the orphan is dead", || !Path::new(&format!("/proc/{pid}/ns")).exists()).await;
    });
}

#[test]
fn another_runtime_runs_the_same_bundle() {
    run(|| async {
        let place = Place::new();
        let with = |mut spec: engine_runtime::ContainerSpec| {
            spec.runtime = Some("runc".to_owned());
            spec
        };
        let script = "echo out; echo err >&2; grep -E 'Seccomp:|CapEff' /proc/self/status; exit 4";
        let (out, err, exit) = place.run("a", &with(place.sh(script))).await;
        assert_eq!((err.as_str(), exit.code), ("err\n", 4));
        assert_eq!(out, "out\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n");
        let error = place.runtime.create("a", &with(place.spec(&["foo"])), &place.io("a")).await.unwrap_err();
        assert_eq!(error.start_failure(), StartFailure::NotFound, "{error}");
        let task = place.start("a", &with(place.spec(&["sleep", "1000"]))).await;
        let spec = engine_runtime::ExecSpec {
            args: ["sh", "-c", "test -t 0 && echo tty; exit 6"].map(str::to_owned).to_vec(),
            tty: true,
            ..Default::default()
        };
        let exec = task.exec("e", &spec).await.unwrap();
        let attach = exec.attach(AttachOptions::default()).await.unwrap();
        exec.start().await.unwrap();
        assert_eq!(collect(attach.output).await.0, "tty\r\n");
        assert_eq!(exec.wait().await.unwrap().code, 6);
        task.kill(9).await.unwrap();
        assert_eq!(task.wait().await.unwrap().code, 137);
        task.delete().await.unwrap();
        let unknown = engine_runtime::ContainerSpec { runtime: Some("nope".to_owned()), ..place.sh("true") };
        let error = place.runtime.create("a", &unknown, &place.io("a")).await.unwrap_err();
        assert_eq!(error.to_string(), "unknown or invalid runtime name: nope");
    });
}
