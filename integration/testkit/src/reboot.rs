//! What a reboot leaves: the disk.

use std::fs;

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::Host;

/// Where the kernel says which boot this is (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl Host {
    /// The power goes and comes back: no process of ours is left, nothing of what the kernel held, and of the files only those
    /// of the state directory; the kernel names another boot from here on. What was running is started again by
    /// [`Host::start`].
    pub fn reboot(&mut self) {
        let containers: Vec<i32> = self
            .d("ps -q")
            .lines()
            .filter_map(|id| self.inspect(id)["State"]["Pid"].as_i64())
            .map(|pid| pid as i32)
            // 0 is that of one that has just ended; for kill(2) it means our own process group.
            .filter(|pid| *pid > 0)
            .collect();
        self.power_off();
        for pid in containers {
            let _ended = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        for mount in self.mounts().iter().rev().filter(|mount| *mount != self.scratch()) {
            umount2(mount.as_path(), MntFlags::MNT_DETACH).unwrap();
        }
        fs::remove_dir_all(self.run_dir()).unwrap();
        let links = self.host.sh("ls /sys/class/net; ip -br link").ok();
        let ours =
            |line: &&str| !line.starts_with("lo ") && !line.starts_with("uplink@") && line.contains(' ');
        for line in links.lines().filter(ours) {
            let name = line.split([' ', '@']).next().unwrap_or_default();
            // A pair goes with either of its ends.
            let _gone = self.host.sh(&format!("ip link del {name}"));
        }
        self.host.sh("nft flush ruleset").ok();
        self.name_another_boot();
    }

    /// By a file of ours in the kernel's place, for what is started from now on. What the daemons mount is still seen by all.
    fn name_another_boot(&mut self) {
        let (dir, none) = (self.scratch(), None::<&str>);
        let boot = dir.join("boot_id");
        if !boot.exists() {
            mount(Some(dir), dir, none, MsFlags::MS_BIND, none).unwrap();
            mount(none, dir, none, MsFlags::MS_SHARED, none).unwrap();
        }
        fs::write(&boot, fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap()).unwrap();
        let line =
            format!("mount --make-private /proc && mount --bind {} {BOOT_ID} && exec \"$@\"", boot.display());
        let wrapper = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", &line, "sh"];
        self.start_by(&wrapper);
    }

    fn power_off(&mut self) {
        self.forget_supervisor();
        self.end_all();
    }
}
