//! Proportional set sizes (proc_pid_smaps(5)): shared pages are counted once, split among those who share them.

use std::{collections::BTreeMap, fs};

use integration_testkit::Host;

/// MiB of the host's own processes that have one of these program names.
pub(crate) fn of_host(host: &Host, programs: &[&str]) -> f64 {
    let named = |line: &[String]| programs.iter().any(|p| line[0].rsplit('/').next() == Some(p));
    host.processes().iter().filter(|(_, line)| named(line)).map(|(pid, _)| pss(*pid)).sum()
}

/// MiB of all processes on the machine that have one of these names.
pub(crate) fn by_name(programs: &[&str]) -> f64 {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        programs.contains(&name.trim()).then(|| entry.file_name().to_str()?.parse().ok()).flatten()
    });
    pids.map(pss).sum()
}

fn pss(pid: i32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib: f64 = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
        .unwrap_or(0.0);
    kib / 1024.0
}

/// MiB of the BPF maps that a process has open (proc_pid_fdinfo(5)), each once.
pub(crate) fn of_maps(pid: i32) -> f64 {
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let field = |name: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
            maps.insert(id, bytes);
        }
    }
    maps.values().sum::<u64>() as f64 / (1024.0 * 1024.0)
}
