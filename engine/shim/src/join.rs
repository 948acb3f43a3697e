//! Running a further process in the container, in a helper.
//!
//! libcontainer can do this too, but runs the process without the container's seccomp filter; Docker's exec has it.
//! What libcontainer offers for the single steps is used.

use std::{
    fs::File,
    os::fd::{AsFd, FromRawFd, OwnedFd},
    path::Path,
};

use engine_protocol::{FailureCause, TerminalSize, cgroup::Hierarchies, layout};
use libcontainer::syscall::syscall::SyscallType;
use nix::{
    errno::Errno,
    libc,
    sched::{CloneFlags, setns},
    sys::stat::{Mode, umask},
    unistd::{ForkResult, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fchown, fork, setsid},
};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, PosixRlimitType, Process};
use serde::Deserialize;

use crate::{
    confine::Confinement,
    helper::{Report, Reporter},
    program,
    seccomp::Profile,
    stdio::ProcessEnds,
};

/// What of the container's spec its further processes share.
#[derive(Deserialize)]
struct PartialSpec {
    linux: PartialLinux,
}

#[derive(Deserialize)]
struct PartialLinux {
    seccomp: Option<Profile>,
    #[serde(default)]
    namespaces: Vec<LinuxNamespace>,
}

/// The streams of the process.
pub(crate) enum Streams {
    Pipes(ProcessEnds),
    /// The socket that the terminal's master is sent into.
    Terminal(OwnedFd),
}

/// What went wrong, and at what.
struct Trouble(FailureCause, String);

impl Trouble {
    fn at<E: std::fmt::Display>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self(FailureCause::Runtime, format!("{step}: {error}"))
    }
}

/// Runs `process` (the OCI spec's object as JSON) beside the container's first process `init`.
pub(crate) fn join(
    init: i32,
    cgroup: &str,
    process: &str,
    streams: Streams,
    cache: Option<&Path>,
    reporter: Reporter,
) {
    if let Err(Trouble(cause, message)) = prepare(init, cgroup, process, streams, cache, reporter) {
        reporter.fail(cause, format!("exec failed: {message}"));
    }
}

fn prepare(
    init: i32,
    cgroup: &str,
    process: &str,
    streams: Streams,
    cache: Option<&Path>,
    reporter: Reporter,
) -> Result<(), Trouble> {
    let process: Process = serde_json::from_str(process).map_err(Trouble::at("parse the process"))?;
    let spec = File::open(layout::SPEC).map_err(Trouble::at("open the spec"))?;
    let spec: PartialSpec =
        serde_json::from_reader(std::io::BufReader::new(spec)).map_err(Trouble::at("parse the spec"))?;
    let confinement =
        Confinement::prepare(spec.linux.seccomp.as_ref(), process.capabilities().clone(), cache)
            .map_err(Trouble::at("prepare"))?;
    let init = pidfd(init).map_err(Trouble::at("find the container's process"))?;
    // Nothing in the container may look into this process, which still has what the shim had.
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    if let Some(score) = process.oom_score_adj() {
        let _ = std::fs::write("/proc/self/oom_score_adj", score.to_string());
    }
    let hierarchies = Hierarchies::detect().map_err(Trouble::at("find the cgroups"))?;
    hierarchies.group(cgroup).join(0).map_err(Trouble::at("join the cgroup"))?;
    set_limits(&process).map_err(Trouble::at("set a resource limit"))?;
    setns(init.as_fd(), namespaces(&spec.linux.namespaces)).map_err(Trouble::at("join the namespaces"))?;
    // SAFETY: one thread. The PID namespace is that of children only.
    match unsafe { fork() }.map_err(Trouble::at("fork"))? {
        ForkResult::Parent { child } => {
            reporter.send(&Report::Pid(child.as_raw()));
            Ok(())
        }
        ForkResult::Child => {
            if let Err(Trouble(cause, message)) = become_process(&process, &confinement, streams) {
                reporter.fail(cause, format!("exec failed: {message}"));
                // SAFETY: ends the process without running what belongs to the shim.
                unsafe { libc::_exit(1) }
            }
            match program::find(&process) {
                Ok(_) => program::execute(&process),
                Err(failure) => {
                    let message = failure.message.replace("error during container init: ", "");
                    reporter.fail(failure.cause, format!("exec failed: {message}"));
                    // SAFETY: as above.
                    unsafe { libc::_exit(1) }
                }
            }
        }
    }
}

fn become_process(process: &Process, confinement: &Confinement, streams: Streams) -> Result<(), Trouble> {
    let syscall = SyscallType::Linux.create_syscall();
    setsid().map_err(Trouble::at("start a session"))?;
    match streams {
        Streams::Pipes(ends) => {
            dup2_stdin(&ends.stdin).map_err(Trouble::at("set standard input"))?;
            dup2_stdout(&ends.stdout).map_err(Trouble::at("set standard output"))?;
            dup2_stderr(&ends.stderr).map_err(Trouble::at("set standard error"))?;
        }
        Streams::Terminal(socket) => {
            // It closes the socket.
            let socket = std::os::fd::IntoRawFd::into_raw_fd(socket);
            libcontainer::tty::setup_console(syscall.as_ref(), socket, false)
                .map_err(Trouble::at("set up the terminal"))?;
            own_terminal(process).map_err(Trouble::at("set up the terminal"))?;
        }
    }
    umask(Mode::from_bits_truncate(process.user().umask().unwrap_or(0o022)));
    // First as root, as for the container's own process; again below for a directory that only the user may enter.
    let entered = chdir(process.cwd());
    match entered {
        Ok(()) | Err(Errno::EACCES | Errno::EPERM) => {}
        Err(error) => return Err(no_directory(process, error)),
    }
    become_user(process).map_err(Trouble::at("become the user"))?;
    if entered.is_err() {
        chdir(process.cwd()).map_err(|error| no_directory(process, error))?;
    }
    if process.no_new_privileges() == Some(true) {
        // SAFETY: no memory is involved.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    }
    confinement.apply().map_err(Trouble::at("confine the process"))?;
    // What the shim had open must not reach the program.
    // SAFETY: marks descriptors, which stay open until then.
    unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    Ok(())
}

/// Before the program can look: the size, and whose it is.
fn own_terminal(process: &Process) -> Result<(), Errno> {
    let stdin = std::io::stdin();
    if let Some(size) = process.console_size() {
        let size = TerminalSize { rows: size.height() as u16, columns: size.width() as u16 };
        crate::stdio::resize(stdin.as_fd(), size)?;
    }
    fchown(stdin.as_fd(), Some(Uid::from_raw(process.user().uid())), None)
}

fn no_directory(process: &Process, error: Errno) -> Trouble {
    let message = format!(
        "unable to start container process: chdir to cwd ({:?}) set in config.json failed: {}",
        process.cwd(),
        error.desc().to_lowercase()
    );
    Trouble(FailureCause::WorkingDirectory, message)
}

fn become_user(process: &Process) -> Result<(), Errno> {
    let user = process.user();
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    // SAFETY: the kernel reads `groups`, which outlives the call; the others take numbers. The raw system calls act
    // on the calling thread, which is the only one.
    unsafe {
        Errno::result(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
        Errno::result(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        Errno::result(libc::syscall(libc::SYS_setresgid, user.gid(), user.gid(), user.gid()))?;
        Errno::result(libc::syscall(libc::SYS_setresuid, user.uid(), user.uid(), user.uid()))?;
        Errno::result(libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0))?;
    }
    Ok(())
}

fn set_limits(process: &Process) -> Result<(), Errno> {
    for limit in process.rlimits().iter().flatten() {
        let value = libc::rlimit { rlim_cur: limit.soft(), rlim_max: limit.hard() };
        // SAFETY: the kernel reads an rlimit, which outlives the call.
        Errno::result(unsafe { libc::setrlimit(resource(limit.typ()), &value) })?;
    }
    Ok(())
}

fn resource(limit: PosixRlimitType) -> libc::__rlimit_resource_t {
    match limit {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

/// The namespaces that the container does not share with the shim.
fn namespaces(list: &[LinuxNamespace]) -> CloneFlags {
    list.iter().fold(CloneFlags::empty(), |flags, namespace| {
        flags
            | match namespace.typ() {
                LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
                LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
                LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
                LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
                LinuxNamespaceType::User => CloneFlags::CLONE_NEWUSER,
                LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
                LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
                LinuxNamespaceType::Time => CloneFlags::from_bits_retain(0x80),
            }
    })
}

fn pidfd(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: takes numbers, returns a descriptor that nobody else owns.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
