use std::{fs, path::PathBuf, process::Command, sync::OnceLock};

use crate::{binary, run};

/// The programs that the test image has, all of them busybox.
const APPLETS: &[&str] = &[
    "sh",
    "sleep",
    "true",
    "false",
    "cat",
    "echo",
    "ls",
    "id",
    "env",
    "pwd",
    "hostname",
    "ip",
    "ping",
    "ping6",
    "nc",
    "nslookup",
    "wget",
    "httpd",
    "stty",
    "test",
    "ps",
    "mount",
    "touch",
    "mkdir",
    "rm",
    "dd",
    "seq",
    "kill",
    "date",
    "grep",
    "head",
    "tail",
    "wc",
    "sort",
    "tr",
    "cut",
    "awk",
    "sed",
    "stat",
    "chmod",
    "chown",
    "md5sum",
    "printf",
    "trap",
    "xargs",
    "yes",
    "nproc",
    "readlink",
    "ln",
    "mv",
    "cp",
    "find",
    "sync",
    "ulimit",
    "umask",
    "telnet",
    "traceroute",
    "arping",
    "netstat",
    "tty",
    "who",
    "df",
    "uname",
];

/// The network probe (`probe.c` says what it does), linked statically, built once into the target directory.
pub fn probe() -> PathBuf {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    const SOURCE: &str = include_str!("probe.c");
    PROBE
        .get_or_init(|| {
            let beside = binary("causeway");
            let probe = beside.with_file_name(format!("probe-{:016x}", fingerprint(SOURCE.as_bytes())));
            if !probe.exists() {
                // Test binaries may do this at the same time: each into a directory of its own, then one rename.
                let work = tempfile::tempdir_in(beside.parent().unwrap()).unwrap();
                let (source, built) = (work.path().join("probe.c"), work.path().join("probe"));
                fs::write(&source, SOURCE).unwrap();
                let mut compiler = Command::new("cc");
                compiler.args(["-static", "-O2", "-pthread", "-o"]).arg(&built).arg(&source);
                run(compiler, b"").ok();
                fs::rename(built, &probe).unwrap();
            }
            probe
        })
        .clone()
}

/// FNV-1a: tells one version of the source from another.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A tar of a root directory with a static busybox and the [`probe`], as `docker import` takes it.
pub fn rootfs_tar() -> &'static [u8] {
    static TAR: OnceLock<Vec<u8>> = OnceLock::new();
    TAR.get_or_init(|| rootfs_tar_with(&[]))
}

/// [`rootfs_tar`] with more files: path, mode, content.
pub fn rootfs_tar_with(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let busybox =
        fs::read("/bin/busybox").expect("no /bin/busybox: `make deps` installs Debian's busybox-static");
    let mut tar = tar::Builder::new(Vec::new());
    for (dir, mode) in [
        ("bin", 0o755),
        ("etc", 0o755),
        ("tmp", 0o1777),
        ("root", 0o700),
        ("proc", 0o755),
        ("sys", 0o755),
        ("dev", 0o755),
        ("var", 0o755),
        ("home", 0o755),
        ("www", 0o755),
    ] {
        entry(&mut tar, &format!("{dir}/"), tar::EntryType::Directory, mode, b"");
    }
    entry(&mut tar, "bin/busybox", tar::EntryType::Regular, 0o755, &busybox);
    entry(&mut tar, "bin/probe", tar::EntryType::Regular, 0o755, &fs::read(probe()).unwrap());
    for applet in APPLETS {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home:/bin/sh\n";
    entry(&mut tar, "etc/passwd", tar::EntryType::Regular, 0o644, passwd);
    let group = b"root:x:0:\nalice:x:1000:\nstaff:x:50:alice\n";
    entry(&mut tar, "etc/group", tar::EntryType::Regular, 0o644, group);
    entry(&mut tar, "www/index.html", tar::EntryType::Regular, 0o644, b"hello from the container\n");
    for (path, mode, content) in files {
        entry(&mut tar, path, tar::EntryType::Regular, *mode, content);
    }
    tar.into_inner().unwrap()
}

fn entry(tar: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, mode: u32, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content).unwrap();
}
