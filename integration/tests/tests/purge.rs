//! After `causeway down --purge` the host is as it was. Alone in its binary, so that no other test changes the host
//! meanwhile.

use std::{collections::BTreeSet, fs, path::Path};

use integration_testkit::{Host, Namespace, eventually};

/// Everything that Causeway makes or changes anywhere: links, rules, settings, mounts, cgroups, BPF objects, processes,
/// files.
fn everything(host: &Host) -> BTreeSet<String> {
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
    add("mount", fs::read_to_string("/proc/self/mounts").unwrap());
    let namespaces = fs::read_dir("/run/netns").unwrap().flatten();
    add("namespace", namespaces.map(|e| format!("{:?}\n", e.file_name())).collect());
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        folders(&hierarchy.path(), &mut |path| add("cgroup", path.display().to_string()));
    }
    add("process", host.processes().iter().map(|(_, line)| line.join(" ") + "\n").collect());
    for (kind, command) in [("program", 11), ("map", 12), ("link", 31)] {
        add("bpf", format!("{kind}s {}", bpf_objects(command)));
    }
    add(
        "file",
        fs::read_dir("/sys/fs/bpf")
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| format!("{:?}\n", e.path()))
            .collect(),
    );
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

/// How many objects of a kind the kernel holds: BPF_PROG_GET_NEXT_ID, BPF_MAP_GET_NEXT_ID, BPF_LINK_GET_NEXT_ID (bpf(2)).
fn bpf_objects(command: i32) -> usize {
    let mut attributes = [0u32; 16];
    let mut count = 0;
    // SAFETY: these commands read start_id and write next_id, both inside the array.
    while unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(&attributes)) }
        == 0
    {
        attributes[0] = attributes[1];
        count += 1;
    }
    count
}

#[test]
fn nothing_is_left_after_a_purge() {
    let mut host = Host::new();
    eventually("the uplink's own addresses are settled", || {
        let settled = |ns: &Namespace| !ns.ip("-6 address show tentative").contains("inet6");
        settled(&host.host)
            && settled(&host.client)
            && host.host.ip("-6 address show scope link").contains("fe80")
    });
    let before = everything(&host);
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
    assert_ne!(everything(&host), before);
    host.purge().ok();
    let after = everything(&host);
    let left: Vec<_> = after.difference(&before).collect();
    let lost: Vec<_> = before.difference(&after).collect();
    assert!(left.is_empty() && lost.is_empty(), "left behind: {left:#?}\nlost: {lost:#?}");
}
