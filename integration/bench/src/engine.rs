//! An engine under measurement: a docker CLI that talks to it.

use std::{
    ffi::OsString,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use integration_testkit::{Api, Response, docker_cli, rootfs_tar, run};
use serde_json::Value;

/// The image that both engines run: a static busybox.
pub(crate) const IMAGE: &str = "causeway-bench:box";

pub(crate) struct Engine {
    pub(crate) name: &'static str,
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Engine {
    /// An engine that this command, a docker CLI without arguments of its own yet, talks to.
    pub(crate) fn new(name: &'static str, command: Command) -> Self {
        let environment =
            command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
        let arguments = command.get_args().map(Into::into).collect();
        Self { name, program: command.get_program().to_owned(), arguments, environment }
    }

    pub(crate) fn at(name: &'static str, socket: &str) -> Self {
        // The same way in as ours: by nsenter, which costs about a millisecond.
        let mut command = Command::new("nsenter");
        command.arg("--net=/proc/self/ns/net").arg("--").arg(docker_cli()).env("DOCKER_HOST", socket);
        Self::new(name, command)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(arguments).envs(self.environment.iter().cloned());
        command
    }

    /// How long a POST takes, from connecting to the end of the answer.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Duration {
        self.call(path, |api| api.post(path, body))
    }

    /// How long a DELETE takes.
    pub(crate) fn delete(&self, path: &str) -> Duration {
        self.call(path, |api| api.delete(path))
    }

    /// How long a GET takes.
    pub(crate) fn get(&self, path: &str) -> Duration {
        self.call(path, |api| api.get(path))
    }

    fn call(&self, path: &str, send: impl FnOnce(&Api) -> Response) -> Duration {
        let host =
            self.environment.iter().find(|(key, _)| key == "DOCKER_HOST").expect("an engine has a socket");
        let socket = host.1.to_str().and_then(|host| host.strip_prefix("unix://")).expect("a unix socket");
        let api = Api::at(Path::new(socket));
        let started = Instant::now();
        let answer = send(&api);
        let took = started.elapsed();
        assert!(answer.status < 300, "{}: {path}: {}", self.name, String::from_utf8_lossy(&answer.body));
        took
    }

    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        run(self.command(arguments), b"").ok()
    }

    /// How long the whole command takes, from its start to its end.
    pub(crate) fn time(&self, arguments: &[&str]) -> Duration {
        let mut command = self.command(arguments);
        let started = Instant::now();
        let output = command.output().expect("the docker CLI starts");
        let took = started.elapsed();
        assert!(
            output.status.success(),
            "{}: docker {}: {}",
            self.name,
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        took
    }

    /// A container's network namespace, as long as it runs.
    pub(crate) fn namespace(&self, container: &str) -> PathBuf {
        let pid = self.docker(&["inspect", "-f", "{{.State.Pid}}", container]);
        format!("/proc/{pid}/ns/net").into()
    }

    /// Its address on its only network.
    pub(crate) fn address(&self, container: &str) -> Ipv4Addr {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = self.docker(&["inspect", "-f", format, container]);
        address.parse().expect("a container on a bridge network has an IPv4 address")
    }

    pub(crate) fn prepare(&self) {
        run(self.command(&["import", "-", IMAGE]), rootfs_tar()).ok();
    }

    pub(crate) fn clean_up(&self) {
        self.docker(&["rmi", IMAGE]);
    }
}

#[derive(Clone, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    pub(crate) fn median_ms(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).map_or(f64::NAN, |d| d.as_secs_f64() * 1e3)
    }
}
