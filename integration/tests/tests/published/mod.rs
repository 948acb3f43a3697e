//! Containers that publish ports, by each way to do it, and clients. Each test that has it uses a part.
#![allow(dead_code)]

use integration_testkit::{Finished, Host, Namespace, eventually, probe, run};

/// What leads clients to published ports. Everything holds for both, but for what is said where it does not.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Backend {
    Ebpf,
    Nftables,
}

impl Backend {
    pub(crate) fn host(self) -> Host {
        match self {
            Backend::Ebpf => Host::new(),
            Backend::Nftables => {
                Host::new().with_arguments(&["--publish-backend", "nftables", "--published-ports", "open"])
            }
        }
    }

    pub(crate) fn with_image(self) -> Host {
        let mut host = self.host();
        host.start();
        host.import("box");
        host
    }
}

macro_rules! with_each_backend {
    ($($test:ident),* $(,)?) => {
        mod ebpf {
            $(#[test] fn $test() { super::$test(super::Backend::Ebpf) })*
        }
        mod nftables {
            $(#[test] fn $test() { super::$test(super::Backend::Nftables) })*
        }
    };
}
pub(crate) use with_each_backend;

/// A container that serves on port 80 of both transports, published as given.
pub(crate) fn serve(host: &Host, name: &str, publish: &[&str]) {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(publish);
    args.extend(["box", "probe", "serve", "80"]);
    host.docker(&args).ok();
    eventually("the server serves", || host.d(&format!("logs {name}")).contains("serving"));
}

pub(crate) fn ask(from: &Namespace, args: &str) -> Finished {
    let mut command = from.command(probe().to_str().unwrap());
    command.args(args.split(' '));
    run(command, b"")
}

/// The address that the server says the client has.
#[track_caller]
pub(crate) fn seen(from: &Namespace, args: &str) -> String {
    let answer = ask(from, args).ok();
    answer.split(' ').next().unwrap().to_owned()
}

/// `causeway ports`.
pub(crate) fn ports(host: &Host, args: &str) -> Finished {
    let docker_host = host.docker_host();
    let mut words: Vec<&str> = args.split(' ').collect();
    words.splice(1..1, ["-H", &docker_host]);
    words.insert(0, "ports");
    host.causeway(&words)
}
