//! A place of its own for one test: directories, a cgroup, a busybox root filesystem. Removed also on failure.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use engine_runtime::{
    AttachOptions, AttachOutput, ContainerSpec, ExitStatus, IoConfig, LogFile, NetworkNamespace, Runtime,
    RuntimeConfig, Stream, Task,
};

/// Nothing here takes this long, also where the machine stands still for a minute; what does, hangs.
const DEADLINE: Duration = Duration::from_secs(180);
/// As long may one condition be waited for.
const PATIENCE: Duration = Duration::from_secs(120);

static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Place {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) cgroup_parent: String,
    pub(crate) runtime: Runtime,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let cgroup_parent = format!("causeway-test-{}-{number}", std::process::id());
        let runtime = runtime(directory.path(), &cgroup_parent);
        let rootfs = directory.path().join("rootfs");
        for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "root"] {
            fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        for name in [
            "sh", "echo", "cat", "true", "false", "sleep", "id", "env", "grep", "head", "tail", "tr", "wc",
            "stty", "test", "ls", "hostname", "dd", "kill", "ps", "mount", "pwd", "touch", "unshare", "seq",
            "printf", "yes", "stat", "mknod", "tty",
        ] {
            symlink("busybox", rootfs.join("bin").join(name)).unwrap();
        }
        fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/tmp:/bin/sh\n")
            .unwrap();
        fs::write(rootfs.join("etc/group"), "root:x:0:\nweb:x:34:\nlogs:x:50:web\n").unwrap();
        fs::write(rootfs.join("etc/not-a-program"), "").unwrap();
        Self { directory, cgroup_parent, runtime }
    }

    /// What a fresh engine would have.
    pub(crate) fn another_runtime(&self) -> Runtime {
        runtime(self.directory.path(), &self.cgroup_parent)
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn spec(&self, args: &[&str]) -> ContainerSpec {
        ContainerSpec {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            rootfs: self.path().join("rootfs"),
            hostname: "box".to_owned(),
            network: NetworkNamespace::Fresh,
            ..ContainerSpec::default()
        }
    }

    pub(crate) fn sh(&self, script: &str) -> ContainerSpec {
        self.spec(&["sh", "-c", script])
    }

    pub(crate) fn io(&self, id: &str) -> IoConfig {
        IoConfig {
            log: Some(LogFile { path: self.log_path(id), max_size: None, max_files: 1 }),
            ..IoConfig::default()
        }
    }

    pub(crate) fn log_path(&self, id: &str) -> PathBuf {
        self.path().join(format!("{id}.log"))
    }

    pub(crate) fn log(&self, id: &str) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.log_path(id)).unwrap();
        let line = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let time = value["time"].as_str().unwrap();
            assert!(time.ends_with('Z') && time.starts_with("20"), "{time}");
            (value["stream"].as_str().unwrap().to_owned(), value["log"].as_str().unwrap().to_owned())
        };
        text.lines().map(line).collect()
    }

    /// Runs it to its end: standard output, standard error, exit.
    pub(crate) async fn run(&self, id: &str, spec: &ContainerSpec) -> (String, String, ExitStatus) {
        let task = self.runtime.create(id, spec, &self.io(id)).await.unwrap();
        let attach = task.attach(AttachOptions::default()).await.unwrap();
        task.start().await.unwrap();
        let (out, err) = collect(attach.output).await;
        let exit = task.wait().await.unwrap();
        task.delete().await.unwrap();
        (out, err, exit)
    }

    /// Starts it in the background.
    pub(crate) async fn start(&self, id: &str, spec: &ContainerSpec) -> Task {
        let task = self.runtime.create(id, spec, &self.io(id)).await.unwrap();
        task.start().await.unwrap();
        task
    }

    /// What is left of ours in the kernel's cgroups.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = engine_protocol::cgroup::Hierarchies::detect().unwrap();
        hierarchies.group(&self.cgroup_parent).directories()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let failures = engine_runtime::purge(self.path(), &self.cgroup_parent);
        if !std::thread::panicking() {
            assert!(failures.is_empty(), "{failures:?}");
            assert_eq!(self.cgroups(), Vec::<PathBuf>::new());
        }
    }
}

fn runtime(directory: &Path, cgroup_parent: &str) -> Runtime {
    Runtime::new(RuntimeConfig {
        run_dir: directory.to_owned(),
        // A release build of it, for measuring.
        shim_binary: std::env::var_os("CAUSEWAY_SHIM")
            .map_or(env!("CARGO_BIN_EXE_causeway-shim").into(), Into::into),
        cgroup_parent: cgroup_parent.to_owned(),
        runtimes: BTreeMap::from([("runc".to_owned(), "runc".into())]),
    })
    .unwrap()
}

/// All that comes, by stream.
pub(crate) async fn collect(mut output: AttachOutput) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(piece) = output.next().await.unwrap() {
        match piece.stream {
            Stream::Stdout => out.extend_from_slice(&piece.data),
            Stream::Stderr => err.extend_from_slice(&piece.data),
        }
    }
    (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned())
}

/// Reads until the text has come.
pub(crate) async fn expect(output: &mut AttachOutput, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        match output.next().await.unwrap() {
            Some(piece) => seen.push_str(&String::from_utf8_lossy(&piece.data)),
            None => panic!("ended before {text:?} came: {seen:?}"),
        }
    }
    seen
}

/// Runs a test's body with a deadline.
pub(crate) fn run<F: Future<Output = ()>>(body: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, body()).await.expect("a test must not hang") });
}

/// Waits until something holds, looking again and again.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        // Before the look, so that the last one comes after it.
        let late = std::time::Instant::now() >= deadline;
        if holds() {
            return;
        }
        assert!(!late, "it never came about: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
