//! Input, output, terminals and execs.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use engine_runtime::{
    AttachOptions, ContainerSpec, ExecSpec, IoConfig, RuntimeError, StartFailure, Stdin, Task, TerminalSize,
};
use support::{Place, collect, expect, run};

const INPUT: AttachOptions = AttachOptions { stdin: true, stdout: true, stderr: true };

fn exec(args: &[&str]) -> ExecSpec {
    ExecSpec { args: args.iter().map(|arg| (*arg).to_owned()).collect(), ..ExecSpec::default() }
}

async fn run_exec(task: &Task, id: &str, spec: &ExecSpec) -> (String, String, i32) {
    let exec = task.exec(id, spec).await.unwrap();
    let attach = exec.attach(AttachOptions::default()).await.unwrap();
    exec.start().await.unwrap();
    let (out, err) = collect(attach.output).await;
    (out, err, exec.wait().await.unwrap().code)
}

#[test]
fn attached_before_the_start_nothing_is_missed() {
    run(|| async {
        let place = Place::new();
        let (out, _, exit) =
            place.run("a", &place.sh("head -c 1000000 /dev/zero | tr '\\0' x; printf end")).await;
        assert_eq!(exit.code, 0);
        assert_eq!(out.len(), 1_000_003);
        let logged: usize = place.log("a").iter().map(|(_, text)| text.len()).sum();
        assert_eq!(logged, 1_000_003);
    });
}

#[test]
fn input_is_piped_through_and_ends() {
    run(|| async {
        let place = Place::new();
        let io = IoConfig { stdin: Stdin::Once, ..place.io("a") };
        let task = place.runtime.create("a", &place.spec(&["wc", "-c"]), &io).await.unwrap();
        let mut attach = task.attach(INPUT).await.unwrap();
        task.start().await.unwrap();
        attach.input.write(&vec![b'x'; 300_000]).await.unwrap();
        attach.input.end().await.unwrap();
        assert_eq!(collect(attach.output).await.0, "300000\n");
        assert_eq!(task.wait().await.unwrap().code, 0);
        task.delete().await.unwrap();
    });
}

#[test]
fn detaching_keeps_the_input_and_vanishing_ends_it() {
    run(|| async {
        let place = Place::new();
        let io = IoConfig { stdin: Stdin::Once, ..place.io("a") };
        let task = place.runtime.create("a", &place.spec(&["cat"]), &io).await.unwrap();
        task.start().await.unwrap();
        let mut attach = task.attach(INPUT).await.unwrap();
        attach.input.write(b"one\n").await.unwrap();
        expect(&mut attach.output, "one").await;
        attach.input.detach().await.unwrap();
        drop(attach.output);
        let mut attach = task.attach(INPUT).await.unwrap();
        attach.input.write(b"two\n").await.unwrap();
        expect(&mut attach.output, "two").await;
        drop(attach);
        assert_eq!(task.wait().await.unwrap().code, 0);
        task.delete().await.unwrap();
    });
}

#[test]
fn open_input_survives_its_attachers() {
    run(|| async {
        let place = Place::new();
        let io = IoConfig { stdin: Stdin::Open, ..place.io("a") };
        let task = place.runtime.create("a", &place.spec(&["cat"]), &io).await.unwrap();
        task.start().await.unwrap();
        for text in ["one\n", "two\n"] {
            let mut attach = task.attach(INPUT).await.unwrap();
            attach.input.write(text.as_bytes()).await.unwrap();
            expect(&mut attach.output, text).await;
        }
        task.close_stdin().await.unwrap();
        assert_eq!(task.wait().await.unwrap().code, 0);
        task.delete().await.unwrap();
    });
}

#[test]
fn no_input_is_dev_null() {
    run(|| async {
        let place = Place::new();
        let (out, _, _) = place.run("a", &place.sh("cat; stat -Lc %t,%T /proc/self/fd/0")).await;
        assert_eq!(out, "1,3\n");
    });
}

#[test]
fn an_attacher_that_does_not_read_holds_up_nobody() {
    run(|| async {
        let place = Place::new();
        let task =
            place.runtime.create("a", &place.sh("head -c 3000000 /dev/zero"), &place.io("a")).await.unwrap();
        let idle = task.attach(AttachOptions::default()).await.unwrap();
        let busy = task.attach(AttachOptions::default()).await.unwrap();
        task.start().await.unwrap();
        assert_eq!(collect(busy.output).await.0.len(), 3_000_000);
        assert_eq!(task.wait().await.unwrap().code, 0);
        // And what it did not read has been kept for it.
        assert_eq!(collect(idle.output).await.0.len(), 3_000_000);
        task.delete().await.unwrap();
    });
}

#[test]
fn a_terminal_is_a_real_one() {
    run(|| async {
        let place = Place::new();
        let size = TerminalSize { rows: 33, columns: 111 };
        let io = IoConfig { stdin: Stdin::Open, terminal_size: size, ..place.io("a") };
        let spec = ContainerSpec { tty: true, user: "web".to_owned(), ..place.spec(&["sh"]) };
        let task = place.runtime.create("a", &spec, &io).await.unwrap();
        let mut attach = task.attach(INPUT).await.unwrap();
        task.start().await.unwrap();
        attach
            .input
            .write(b"test -t 0 && test -t 1 && echo yes-tty; stty size; echo $TERM; tty\n")
            .await
            .unwrap();
        let seen = expect(&mut attach.output, "/dev/pts/0").await;
        assert!(seen.contains("\r\nyes-tty\r\n33 111\r\n"), "{seen:?}");
        task.resize(TerminalSize { rows: 10, columns: 20 }).await.unwrap();
        attach.input.write(b"echo r; stty size; echo x > /dev/pts/0; echo $?-end\n").await.unwrap();
        let seen = expect(&mut attach.output, "0-end").await;
        assert!(seen.contains("10 20\r\nx"), "{seen:?}");
        // Ctrl-C reaches what is in the foreground. What is waited for is computed, and so is nowhere in the echo of what
        // is typed, which the shell breaks at the terminal's edge. Ctrl-C also makes the kernel throw away output, after
        // it has sent the signal (n_tty.c, isig): without noflsh that could be the answer.
        attach
            .input
            .write(b"sh -c 'stty noflsh; trap \"echo caught-$((1+1)); exit\" INT; echo ready-$((40+2)); while true; do sleep 0.05; done'\n")
            .await
            .unwrap();
        expect(&mut attach.output, "ready-42").await;
        attach.input.write(b"\x03").await.unwrap();
        expect(&mut attach.output, "caught-2").await;
        attach.input.write(b"\nexit 3\n").await.unwrap();
        assert_eq!(task.wait().await.unwrap().code, 3);
        task.delete().await.unwrap();
    });
}

#[test]
fn an_exec_has_its_own_user_environment_and_exit_code() {
    run(|| async {
        let place = Place::new();
        let spec = ContainerSpec { user: "web".to_owned(), ..place.spec(&["sleep", "1000"]) };
        let task = place.start("a", &spec).await;
        let script =
            "id -u; id -G; pwd; echo $FOO $HOME; grep -E 'Seccomp:|CapEff|CapBnd' /proc/self/status; exit 5";
        let mut wanted = exec(&["sh", "-c", script]);
        wanted.env = vec!["FOO=bar".to_owned()];
        wanted.cwd = "/tmp".to_owned();
        let (out, err, code) = run_exec(&task, "one", &wanted).await;
        let status = "CapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\nSeccomp:\t2\n";
        assert_eq!((err.as_str(), code), ("", 5));
        assert_eq!(out, format!("33\n34 50\n/tmp\nbar /tmp\n{status}"));
        wanted.user = "root".to_owned();
        let (out, _, _) = run_exec(&task, "two", &wanted).await;
        assert!(out.starts_with("0\n0\n/tmp\nbar /root\nCapEff:\t00000000a80425fb\n"), "{out}");
        wanted.privileged = true;
        let (out, _, _) = run_exec(&task, "three", &wanted).await;
        assert!(!out.contains("a80425fb"), "{out}");
        // It is in the container's cgroup and PID namespace.
        let (out, _, _) =
            run_exec(&task, "four", &exec(&["sh", "-c", "ps | grep -c 'sleep 1000'; hostname"])).await;
        assert!(out.ends_with("box\n") && !out.starts_with('0'), "{out}");
        let state = task.state().await.unwrap();
        assert_eq!(state.execs.len(), 4);
        assert_eq!(state.execs["one"].exit.unwrap().code, 5);
        task.exec_by_id("one").forget().await.unwrap();
        assert_eq!(task.state().await.unwrap().execs.len(), 3);
        task.delete().await.unwrap();
    });
}

#[test]
fn an_exec_that_cannot_run_says_why_and_harms_nothing() {
    run(|| async {
        let place = Place::new();
        let task = place.start("a", &place.spec(&["sleep", "1000"])).await;
        for (program, cwd, failure) in [
            ("foo", "", StartFailure::NotFound),
            ("/etc/not-a-program", "", StartFailure::NotExecutable),
            ("true", "/nowhere", StartFailure::Other),
        ] {
            let spec = ExecSpec { cwd: cwd.to_owned(), ..exec(&[program]) };
            let made = task.exec(program, &spec).await.unwrap();
            let error = made.start().await.unwrap_err();
            assert_eq!(error.start_failure(), failure, "{error}");
            let message = error.docker_exec_message();
            assert!(
                message.starts_with("OCI runtime exec failed: exec failed: unable to start"),
                "{message}"
            );
        }
        let error =
            task.exec("who", &ExecSpec { user: "who".to_owned(), ..exec(&["true"]) }).await.unwrap_err();
        assert!(matches!(error, RuntimeError::InvalidSpec(_)), "{error}");
        assert_eq!(run_exec(&task, "fine", &exec(&["echo", "fine"])).await.0, "fine\n");
        task.delete().await.unwrap();
    });
}

#[test]
fn an_exec_with_a_terminal_and_input() {
    run(|| async {
        let place = Place::new();
        let task = place.start("a", &place.spec(&["sleep", "1000"])).await;
        let spec = ExecSpec {
            tty: true,
            stdin: true,
            terminal_size: Some(TerminalSize { rows: 5, columns: 50 }),
            ..exec(&["sh", "-c", "stty size; read line; echo got $line"])
        };
        let made = task.exec("t", &spec).await.unwrap();
        let mut attach = made.attach(INPUT).await.unwrap();
        made.start().await.unwrap();
        expect(&mut attach.output, "5 50").await;
        attach.input.write(b"hello\n").await.unwrap();
        expect(&mut attach.output, "got hello").await;
        assert_eq!(made.wait().await.unwrap().code, 0);
        let spec = ExecSpec { stdin: true, ..exec(&["cat"]) };
        let made = task.exec("c", &spec).await.unwrap();
        let mut attach = made.attach(INPUT).await.unwrap();
        attach.input.write(b"early ").await.unwrap();
        made.start().await.unwrap();
        attach.input.write(b"late").await.unwrap();
        attach.input.end().await.unwrap();
        assert_eq!(collect(attach.output).await.0, "early late");
        assert_eq!(made.wait().await.unwrap().code, 0);
        task.delete().await.unwrap();
    });
}
