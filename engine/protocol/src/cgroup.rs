//! The container's cgroup on the kernel's hierarchies: v1, v2 and both at once (hybrid).
//!
//! Plain file access. The OCI runtime makes the groups; this finds what is in them, kills it and removes them, which
//! must work without any runtime, also for what a dead shim left behind.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Where the hierarchies are mounted, by convention of every distribution.
pub const ROOT: &str = "/sys/fs/cgroup";
/// The filesystem type of cgroup v2, from linux/magic.h.
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// The hierarchies that this machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    /// Mount points of the v1 hierarchies, with the controllers that their names say.
    v1: Vec<(PathBuf, Vec<String>)>,
    /// The v2 hierarchy: at the root, or beside the v1 ones without controllers of its own.
    v2: Option<PathBuf>,
}

impl Hierarchies {
    /// Looks at [`ROOT`].
    pub fn detect() -> io::Result<Self> {
        Self::detect_at(Path::new(ROOT))
    }

    fn detect_at(root: &Path) -> io::Result<Self> {
        if is_cgroup2(root) {
            return Ok(Self { v1: Vec::new(), v2: Some(root.to_owned()) });
        }
        let mut found = Self { v1: Vec::new(), v2: None };
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            // `cpu` and `cpuacct` are links to `cpu,cpuacct` where the two are mounted together.
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let path = entry.path();
            if is_cgroup2(&path) {
                found.v2 = Some(path);
            } else if let Some(name) = entry.file_name().to_str() {
                found.v1.push((path, name.split(',').map(str::to_owned).collect()));
            }
        }
        found.v1.sort();
        Ok(found)
    }

    /// Makes the next moves between groups fast; to be called a few milliseconds before one, from a thread that may
    /// wait.
    ///
    /// The lock that every move takes is cheap for those who only fork. Whoever takes it first after a while waits for
    /// a grace period of the kernel, some 10 ms; those who come within about as long after that do not. Moving this
    /// process to where it is takes the lock and does nothing else. A failure costs time only, so it is not told.
    pub fn anticipate_move(&self) {
        let Ok(text) = fs::read_to_string("/proc/self/cgroup") else { return };
        let own = |name: &str| {
            let of_name =
                |line: &&str| line.split(':').nth(1).is_some_and(|list| list.split(',').any(|n| n == name));
            text.lines().find(of_name).and_then(|line| line.splitn(3, ':').nth(2))
        };
        let directory = match own("").and_then(|path| self.group(path).unified()) {
            Some(directory) => Some(directory),
            None => own("freezer").and_then(|path| self.group(path).controller("freezer")),
        };
        if let Some(directory) = directory {
            let _ = fs::write(directory.join("cgroup.procs"), std::process::id().to_string());
        }
    }

    /// Only v2 is there, with all controllers.
    pub fn is_unified(&self) -> bool {
        self.v1.is_empty()
    }

    /// The group at `path` (absolute, below each hierarchy's root), which need not exist.
    pub fn group(&self, path: &str) -> Group<'_> {
        Group { hierarchies: self, path: path.trim_start_matches('/').to_owned() }
    }
}

fn is_cgroup2(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    let mut found = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the path is a C string, and the kernel fills in a statfs when it returns 0.
    let result = unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) };
    // SAFETY: zeroed above, so it is initialised either way.
    result == 0 && unsafe { found.assume_init() }.f_type as u64 == CGROUP2_SUPER_MAGIC
}

/// One group, on all hierarchies.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    hierarchies: &'a Hierarchies,
    path: String,
}

impl Group<'_> {
    /// The directory that governs a controller (`memory`, `cpu`, ...): v1's, or v2's where there is no v1.
    pub fn controller(&self, name: &str) -> Option<PathBuf> {
        if self.hierarchies.is_unified() {
            return self.unified();
        }
        let (root, _) = self.hierarchies.v1.iter().find(|(_, names)| names.iter().any(|n| n == name))?;
        Some(root.join(&self.path))
    }

    /// The directory on the v2 hierarchy.
    pub fn unified(&self) -> Option<PathBuf> {
        self.hierarchies.v2.as_ref().map(|root| root.join(&self.path))
    }

    /// The controllers are v2's.
    pub fn is_unified(&self) -> bool {
        self.hierarchies.is_unified()
    }

    /// The directories that exist, on every hierarchy.
    pub fn directories(&self) -> Vec<PathBuf> {
        let roots = self.hierarchies.v1.iter().map(|(root, _)| root).chain(&self.hierarchies.v2);
        roots.map(|root| root.join(&self.path)).filter(|path| path.is_dir()).collect()
    }

    /// All processes in the group and below, each once.
    pub fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        for directory in self.directories() {
            collect_processes(&directory, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Moves a process in, on every hierarchy on which the group exists.
    pub fn join(&self, pid: i32) -> io::Result<()> {
        for directory in self.directories() {
            fs::write(directory.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }

    /// Makes the group on the v2 hierarchy of a hybrid layout, which v1 runtimes leave out, and moves a process in.
    pub fn join_hybrid(&self, pid: i32) -> io::Result<()> {
        let Some(directory) = self.unified().filter(|_| !self.is_unified()) else { return Ok(()) };
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("cgroup.procs"), pid.to_string())
    }

    /// Sends a signal to every process in the group and below. How many there were.
    pub fn signal(&self, signal: i32) -> usize {
        let processes = self.processes();
        for &pid in &processes {
            // SAFETY: no memory is involved.
            unsafe { libc::kill(pid, signal) };
        }
        processes.len()
    }

    /// Kills until nobody is left, also what keeps forking; false when some remain at the deadline.
    pub fn kill_all(&self, deadline: Instant) -> bool {
        // A frozen process does not die.
        let _ = self.set_frozen(false);
        loop {
            if let Some(kill) =
                self.unified().map(|path| path.join("cgroup.kill")).filter(|path| path.exists())
            {
                let _ = fs::write(kill, "1");
            }
            if self.signal(libc::SIGKILL) == 0 {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            // The kernel has no event for this that works on v1.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Removes the group and all below it, everywhere. The kernel may need a moment after the last process has gone.
    pub fn remove(&self, deadline: Instant) -> io::Result<()> {
        for directory in self.directories() {
            loop {
                match remove_tree(&directory) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) if Instant::now() >= deadline => return Err(error),
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        }
        Ok(())
    }

    /// How often the OOM killer struck in the group.
    pub fn oom_kills(&self) -> u64 {
        let Some(directory) = self.controller("memory") else { return 0 };
        let file = if self.is_unified() { "memory.events" } else { "memory.oom_control" };
        let Ok(text) = fs::read_to_string(directory.join(file)) else { return 0 };
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .and_then(|n| n.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Freezes or thaws, and waits until the kernel has done so. An absent group is not frozen.
    pub fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(2);
        if self.is_unified() {
            let Some(directory) = self.unified() else { return Err(io::ErrorKind::NotFound.into()) };
            fs::write(directory.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
        } else {
            let Some(directory) = self.controller("freezer") else {
                return Err(io::ErrorKind::NotFound.into());
            };
            fs::write(directory.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" })?;
        }
        while self.is_frozen() != frozen {
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// All processes are frozen.
    pub fn is_frozen(&self) -> bool {
        if self.is_unified() {
            let events = self.unified().and_then(|path| fs::read_to_string(path.join("cgroup.events")).ok());
            events.is_some_and(|text| text.lines().any(|line| line == "frozen 1"))
        } else {
            let state = self
                .controller("freezer")
                .and_then(|path| fs::read_to_string(path.join("freezer.state")).ok());
            state.is_some_and(|text| text.trim() == "FROZEN")
        }
    }
}

fn collect_processes(directory: &Path, found: &mut Vec<i32>) {
    // A group may vanish at any moment: what cannot be read holds no process.
    if let Ok(text) = fs::read_to_string(directory.join("cgroup.procs")) {
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|&pid| pid > 0));
    }
    for child in children(directory) {
        collect_processes(&child, found);
    }
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    for child in children(directory) {
        remove_tree(&child)?;
    }
    fs::remove_dir(directory)
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}
