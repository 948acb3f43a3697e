use std::{
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::UNIX_EPOCH,
};

use crate::{Finished, run};

/// A named network namespace (`ip netns`) with loopback up; removed when dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// `role` makes the name readable; it is unique whatever the role.
    pub fn new(role: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // A killed test leaves its namespaces, and its process number comes again.
        let moment = UNIX_EPOCH.elapsed().unwrap_or_default().subsec_nanos();
        let name = format!("cwt-{pid}-{count}-{moment:x}-{role}");
        let namespace = Self { name };
        namespace.global(&["netns", "add", &namespace.name]);
        namespace.ip("link set lo up");
        namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// `ip -n NAME ARGS`, the arguments split at spaces; panics when it fails.
    pub fn ip(&self, args: &str) -> String {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name]).args(args.split_whitespace());
        run(command, b"").ok()
    }

    /// A command that will run in this namespace, and in no other way apart from the caller.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs a shell line in this namespace.
    pub fn sh(&self, line: &str) -> Finished {
        let mut command = self.command("sh");
        command.args(["-c", line]);
        run(command, b"")
    }

    /// Joins two namespaces by a veth pair, each end with its addresses (CIDR), up and without address detection.
    pub fn join(
        &self,
        own: &str,
        addresses: &[&str],
        other: &Namespace,
        others: &str,
        their_addresses: &[&str],
    ) {
        let (a, b) = (&self.name, &other.name);
        self.global(&["link", "add", own, "netns", a, "type", "veth", "peer", "name", others, "netns", b]);
        for (namespace, link, addresses) in [(self, own, addresses), (other, others, their_addresses)] {
            for address in addresses {
                let nodad = if address.contains(':') { "nodad" } else { "" };
                namespace.ip(&format!("address add {address} dev {link} {nodad}"));
            }
            namespace.ip(&format!("link set {link} up"));
        }
    }

    fn global(&self, args: &[&str]) {
        let mut command = Command::new("ip");
        command.args(args);
        run(command, b"").ok();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let mut command = Command::new("ip");
        command.args(["netns", "delete", &self.name]);
        let _ = command.output();
    }
}
