//! What a container may not do, see or use.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs;

use engine_runtime::{
    ContainerSpec, MountKind, MountSpec, NetworkNamespace, Propagation, Resources, SeccompProfile, Ulimit,
};
use support::{Place, run, until};

#[test]
fn capabilities_and_seccomp_are_dockers() {
    run(|| async {
        let place = Place::new();
        let script = "grep -E 'CapEff|CapBnd|CapInh|CapAmb|NoNewPrivs|Seccomp:' /proc/self/status; unshare -U true; \
                      (true) && echo forked";
        let (out, err, _) = place.run("a", &place.sh(script)).await;
        let expected = "CapInh:\t0000000000000000\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\n\
                        CapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\nforked\n";
        assert_eq!(out, expected, "{err}");
        assert!(err.contains("Operation not permitted"), "{err}");
        let script = "grep -E 'NoNewPrivs|Seccomp:|CapEff' /proc/self/status";
        let spec = ContainerSpec {
            no_new_privileges: true,
            cap_add: vec!["SYS_ADMIN".to_owned()],
            cap_drop: vec!["ALL".to_owned()],
            ..place.sh(script)
        };
        assert_eq!(place.run("b", &spec).await.0, "CapEff:\t0000000000200000\nNoNewPrivs:\t1\nSeccomp:\t2\n");
        let spec =
            ContainerSpec { seccomp: SeccompProfile::Unconfined, user: "33".to_owned(), ..place.sh(script) };
        assert_eq!(place.run("c", &spec).await.0, "CapEff:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t0\n");
        let spec = ContainerSpec {
            privileged: true,
            ..place.sh("ls /dev/mem /dev/kmsg >&2; mount -t tmpfs x /tmp && echo mounted")
        };
        let (out, err, _) = place.run("d", &spec).await;
        assert_eq!(out, "mounted\n", "{err}");
    });
}

#[test]
fn what_docker_masks_is_masked() {
    run(|| async {
        let place = Place::new();
        let script = "cat /proc/interrupts | wc -c; ls /sys/firmware | wc -l; \
                      (echo x > /proc/sys/kernel/domainname) 2>/dev/null || echo readonly; \
                      mknod /tmp/m c 1 1; cat /tmp/m 2>/dev/null || echo no-mem; \
                      test -e /dev/mem || echo absent; mount | grep ' /dev/shm ' | grep -c size=65536k; \
                      echo $PATH $HOSTNAME $HOME; pwd; test -e /sys/fs/cgroup && echo cgroup";
        let (out, err, _) = place.run("a", &place.sh(script)).await;
        let env = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin box /root";
        assert_eq!(out, format!("0\n0\nreadonly\nno-mem\nabsent\n1\n{env}\n/\ncgroup\n"), "{err}");
    });
}

#[test]
fn more_memory_than_allowed_gets_it_killed() {
    run(|| async {
        let place = Place::new();
        let resources =
            Resources { memory: Some(16 << 20), memory_swap: Some(16 << 20), ..Default::default() };
        let spec =
            ContainerSpec { resources, ..place.spec(&["dd", "if=/dev/zero", "of=/dev/null", "bs=64M"]) };
        let (_, _, exit) = place.run("a", &spec).await;
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), true));
    });
}

#[test]
fn limits_hold_and_are_counted() {
    run(|| async {
        let place = Place::new();
        let resources = Resources {
            memory: Some(64 << 20),
            pids_limit: Some(8),
            cpu_shares: Some(512),
            cpu_quota: Some(50_000),
            cpu_period: Some(100_000),
            cpuset_cpus: Some("0".to_owned()),
            ..Default::default()
        };
        let script = "(for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done); sleep 1000";
        let spec = ContainerSpec { resources, ..place.sh(script) };
        let task = place.start("a", &spec).await;
        until("it has hit its limit", || place.log("a").iter().any(|(_, text)| text.contains("fork"))).await;
        let stats = task.stats().await.unwrap();
        assert!(stats.pids_current <= 8 && stats.pids_limit == 8, "{stats:?}");
        assert_eq!(stats.memory_limit, 64 << 20);
        assert!(stats.cpu_total > 0 && stats.memory_usage > 0);
        let update = Resources { memory: Some(32 << 20), memory_swap: Some(64 << 20), ..Default::default() };
        task.update(&update).await.unwrap();
        assert_eq!(task.stats().await.unwrap().memory_limit, 32 << 20);
        task.delete().await.unwrap();
    });
}

#[test]
fn mounts_ulimits_and_sysctls_are_in_place() {
    run(|| async {
        let place = Place::new();
        let volume = place.path().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("file"), "from the host\n").unwrap();
        let bind = |destination: &str, readonly| MountSpec {
            destination: destination.to_owned(),
            kind: MountKind::Bind {
                source: volume.clone(),
                propagation: Propagation::default(),
                non_recursive: false,
            },
            readonly,
            options: Vec::new(),
        };
        let tmpfs = MountSpec {
            destination: "/scratch".to_owned(),
            kind: MountKind::Tmpfs,
            readonly: false,
            options: vec!["size=1m".to_owned()],
        };
        let script = "cat /rw/file; touch /rw/new && echo written; touch /ro/new 2>/dev/null || echo readonly; \
                      touch /here 2>/dev/null || echo root-readonly; mount | grep -c 'size=1024k'; ulimit -n; \
                      cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ip_unprivileged_port_start; pwd";
        let spec = ContainerSpec {
            mounts: vec![bind("/rw", false), bind("/ro", true), tmpfs],
            readonly_rootfs: true,
            cwd: "/work/deep".to_owned(),
            ulimits: vec![Ulimit { name: "nofile".to_owned(), soft: 123, hard: 456 }],
            sysctls: [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into(),
            network: NetworkNamespace::Fresh,
            ..place.sh(script)
        };
        let (out, err, _) = place.run("a", &spec).await;
        let expected = "from the host\nwritten\nreadonly\nroot-readonly\n1\n123\n1\n0\n/work/deep\n";
        assert_eq!(out, expected, "{err}");
        assert!(volume.join("new").exists());
    });
}

#[test]
fn the_shims_program_cannot_be_written_from_inside() {
    run(|| async {
        let place = Place::new();
        let task = place.start("a", &place.spec(&["sleep", "1000"])).await;
        let shim = task.state().await.unwrap().shim_pid;
        let file = fs::File::open(format!("/proc/{shim}/exe")).unwrap();
        let flags = nix::sys::statvfs::fstatvfs(&file).unwrap().flags();
        assert!(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY));
        task.delete().await.unwrap();
    });
}
