//! After `causeway down --purge` the host is as it was. What others do on the machine meanwhile does not count: other
//! programs, and other tests.

use std::{
    collections::BTreeSet,
    fs,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use integration_testkit::{Host, Namespace, eventually};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

/// What the kernel has of Causeway's that no namespace or directory bounds, known while it runs.
#[derive(Default)]
struct Known {
    /// Kind and id; the kernel gives no id twice.
    bpf: BTreeSet<(Kind, u32)>,
    /// Names of cgroups.
    cgroups: BTreeSet<String>,
}

/// Everything that Causeway makes or changes anywhere: links, rules, settings, mounts, cgroups, BPF objects, processes,
/// files.
fn everything(host: &Host, known: &Known) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut add =
        |kind: &str, text: String| all.extend(text.lines().map(|line| format!("{kind}: {}", line.trim())));
    for family in ["-4", "-6"] {
        add("route", host.host.ip(&format!("{family} route show table all")));
        add("rule", host.host.ip(&format!("{family} rule show")));
    }
    add("link", host.host.ip("-br link show"));
    add("address", host.host.ip("-br address show"));
    let settings = "cd /proc/sys/net && grep . ipv4/ip_forward ipv?/conf/*/forwarding \
                    ipv4/conf/*/accept_redirects ipv6/conf/*/accept_ra ipv6/conf/*/disable_ipv6";
    add("sysctl", host.host.sh(settings).ok());
    add("nftables", host.host.sh("nft list ruleset").ok());
    add("mount", fs::read_to_string("/proc/thread-self/mounts").unwrap());
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        folders(&hierarchy.path(), &mut |path| {
            if known.cgroups.iter().any(|name| path.ends_with(name)) {
                add("cgroup", path.display().to_string());
            }
        });
    }
    add("process", host.processes().iter().map(|(_, line)| line.join(" ") + "\n").collect());
    let there = known.bpf.iter().filter(|(kind, id)| kind.has(*id));
    add("bpf", there.map(|(kind, id)| format!("{kind:?} {id}\n")).collect());
    for directory in ["/run/netns", "/sys/fs/bpf"] {
        let entries = fs::read_dir(directory).unwrap().flatten();
        add("file", entries.map(|e| format!("{:?}\n", e.path())).collect());
    }
    let socket = host.docker_host().replace("unix://", "").into();
    for directory in [host.state_dir(), host.run_dir(), socket] {
        add("file", format!("{} {}", directory.display(), directory.exists()));
    }
    all
}

fn folders(path: &Path, each: &mut impl FnMut(&Path)) {
    each(path);
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders(&entry.path(), each);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Program,
    Map,
    Link,
}

impl Kind {
    /// Whether the kernel holds it: BPF_PROG_GET_NEXT_ID, BPF_MAP_GET_NEXT_ID, BPF_LINK_GET_NEXT_ID (bpf(2)) tell of the
    /// next one after another.
    fn has(self, id: u32) -> bool {
        let command = match self {
            Kind::Program => 11,
            Kind::Map => 12,
            Kind::Link => 31,
        };
        let mut attributes = [id - 1, 0, 0];
        // SAFETY: these commands read start_id and write next_id, both inside the array.
        let done = unsafe {
            libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(&attributes))
        };
        done == 0 && attributes[1] == id
    }

    /// What a descriptor's fdinfo tells of (proc_pid_fdinfo(5)).
    fn told(fdinfo: &str) -> impl Iterator<Item = (Kind, u32)> {
        fdinfo.lines().filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            let kind = match key {
                "prog_id" => Kind::Program,
                "map_id" => Kind::Map,
                "link_id" => Kind::Link,
                _ => return None,
            };
            Some((kind, value.trim().parse().ok().filter(|id| *id > 0)?))
        })
    }
}

/// What the daemons have open, and what is pinned; the cgroups that a container is in.
fn known(host: &Host, container: i64) -> Known {
    let mut known = Known::default();
    for (pid, _) in host.processes() {
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten() {
            known.bpf.extend(Kind::told(&fs::read_to_string(entry.path()).unwrap_or_default()));
        }
    }
    folders(&host.run_dir().join("bpf"), &mut |directory| {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            if let Some(object) = pinned(&entry.path()) {
                let info = format!("/proc/thread-self/fdinfo/{}", object.as_raw_fd());
                known.bpf.extend(Kind::told(&fs::read_to_string(info).unwrap()));
            }
        }
    });
    for line in fs::read_to_string(format!("/proc/{container}/cgroup")).unwrap().lines() {
        let path = line.splitn(3, ':').nth(2).unwrap();
        known.cgroups.extend(path.split('/').filter(|name| !name.is_empty()).map(str::to_owned));
    }
    // Those that this test is in are not Causeway's.
    for line in fs::read_to_string("/proc/self/cgroup").unwrap().lines() {
        line.split('/').for_each(|name| _ = known.cgroups.remove(name));
    }
    known
}

/// BPF_OBJ_GET (bpf(2)); none of what is no object.
fn pinned(path: &Path) -> Option<OwnedFd> {
    let path = std::ffi::CString::new(path.to_str()?).ok()?;
    let attributes = [path.as_ptr() as u64, 0];
    // SAFETY: the command reads the path, which lives until it returns, and gives a new descriptor.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, 7, attributes.as_ptr(), size_of_val(&attributes));
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Where nobody else mounts anything, or keeps names of network namespaces or BPF objects.
fn private_mounts() {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    // What other tests have mounted goes with the directory that it is on, here too.
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    // Not where what is tested lies.
    let here = [std::env::current_exe().unwrap(), env!("CARGO_MANIFEST_DIR").into()];
    let is_needed = |point: &str| here.iter().any(|path| path.starts_with(point));
    let of_others =
        |point: &&str| point.starts_with("/run/netns") || point.starts_with("/tmp/") && !is_needed(point);
    for point in points.filter(of_others) {
        let _gone = umount2(point, MntFlags::MNT_DETACH);
    }
    fs::create_dir_all("/run/netns").unwrap();
    mount(Some("none"), "/run/netns", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    mount(Some("none"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), none).unwrap();
}

#[test]
fn nothing_is_left_after_a_purge() {
    private_mounts();
    let mut host = Host::new();
    eventually("the uplink's own addresses are settled", || {
        let settled = |ns: &Namespace| !ns.ip("-6 address show tentative").contains("inet6");
        settled(&host.host)
            && settled(&host.client)
            && host.host.ip("-6 address show scope link").contains("fe80")
    });
    let before = everything(&host, &Known::default());
    host.start();
    host.import("box");
    host.d("network create --ipv6 net");
    host.d("network create other");
    host.d("volume create data");
    host.d("run -d --name web --network net -p 8080:80 -v data:/data -v /anonymous box probe serve 80");
    host.d("run -d --name two --network other -P --expose 90 box sleep 1000");
    host.d("network connect other web");
    host.d("run -d --name plain --network host box sleep 1000");
    host.d("run --name stopped box true");
    host.d("exec -d web sleep 1000");
    let known = known(&host, host.inspect("web")["State"]["Pid"].as_i64().unwrap());
    for kind in [Kind::Program, Kind::Map, Kind::Link] {
        assert!(known.bpf.iter().any(|(has, _)| *has == kind), "no {kind:?} in {:?}", known.bpf);
    }
    let during = everything(&host, &known);
    for kind in
        ["route", "link", "address", "sysctl", "nftables", "mount", "cgroup", "process", "bpf", "file"]
    {
        let seen = during.difference(&before).any(|line| line.starts_with(kind));
        assert!(seen, "nothing is seen of {kind}: {during:#?}");
    }
    host.purge().ok();
    let mut differs = BTreeSet::new();
    let mut left = || {
        let after = everything(&host, &known);
        let now: BTreeSet<_> = after.symmetric_difference(&before).cloned().collect();
        if now != differs {
            eprintln!("left behind, or lost: {now:#?}");
            differs.clone_from(&now);
        }
        now
    };
    assert!(left().iter().all(|line| line.starts_with("bpf")), "not as it was when the purge ended");
    // The kernel frees what it has of BPF when all processors have let go of it.
    eventually("the host is as it was", || left().is_empty());
}
