//! causeway-shim: one small process per container.
//!
//! `causeway-shim DIR` reads `DIR/shim.json`, listens at `DIR/shim.sock`, leaves its caller's session and returns at
//! once; what goes on in the background creates the container of the bundle in DIR and holds its stdio and exit
//! status for as long as it lives. It has one thread, one `poll`, and no async runtime. All that needs the OCI
//! runtime's code happens in children (see [`helper`]), so that none of its memory stays here.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod binary;
mod client;
mod clock;
mod confine;
mod console;
mod create;
mod devices;
mod exits;
mod helper;
mod join;
mod log;
mod outbox;
mod program;
mod requests;
mod seccomp;
mod shim;
mod stdio;
mod work;

use std::{
    error::Error,
    fs::{self, File, OpenOptions},
    io::BufReader,
    os::unix::{fs::MetadataExt, net::UnixListener},
    process::ExitCode,
};

use engine_protocol::{ShimConfig, layout};
use nix::{
    sys::{
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        stat::{Mode, umask},
    },
    unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid},
};

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: causeway-shim DIRECTORY");
        return ExitCode::from(2);
    };
    let prepared = std::env::set_current_dir(&directory).map_err(Into::into).and_then(|()| prepare());
    let (config, listener, held) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("causeway-shim {}: {error}", directory.to_string_lossy());
            return ExitCode::FAILURE;
        }
    };
    // The caller waits for this process only, and finds the socket listening when it has ended.
    // SAFETY: there is one thread.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { .. }) => ExitCode::SUCCESS,
        Ok(ForkResult::Child) => {
            match detach(held).and_then(|()| Ok(shim::Shim::new(config, listener)?.run()?)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("causeway-shim: {error}");
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            eprintln!("causeway-shim: fork: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration, the socket, and the file that is held locked until it is known whom to kill.
fn prepare() -> Result<(ShimConfig, UnixListener, File), Box<dyn Error>> {
    let held = File::open(layout::CONFIG)?;
    held.lock()?;
    if held.metadata()?.nlink() == 0 {
        return Err("the container has been removed meanwhile".into());
    }
    let config: ShimConfig = serde_json::from_reader(BufReader::new(&held))
        .map_err(|error| format!("{}: {error}", layout::CONFIG))?;
    let _ = fs::remove_file(layout::SOCKET);
    let listener = UnixListener::bind(layout::SOCKET)
        .map_err(|error| format!("listen at {}: {error}", layout::SOCKET))?;
    listener.set_nonblocking(true)?;
    Ok((config, listener, held))
}

/// Leaves the caller: its session, its streams, its signals.
fn detach(held: File) -> Result<(), Box<dyn Error>> {
    setsid()?;
    umask(Mode::from_bits_truncate(0o022));
    let log = OpenOptions::new().append(true).create(true).open(layout::LOG)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&log)?;
    // What was started in the background of a script ignores SIGINT, by nohup SIGHUP; a program that ignores a signal at
    // its start goes on to (signal(7), POSIX sh's trap), and Ctrl-C in the container would reach nobody.
    for signal in Signal::iterator().filter(|signal| *signal != Signal::SIGPIPE) {
        // SAFETY: sets a disposition without a handler. SIGKILL and SIGSTOP refuse, and need none.
        unsafe { nix::libc::signal(signal as i32, nix::libc::SIG_DFL) };
    }
    // A shim ends with its container, not because somebody ends the engine by its process group or service. The
    // helpers unblock them.
    let mut blocked = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        blocked.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&blocked), None)?;
    // The file that was executed may have no telling name.
    // SAFETY: the kernel reads a C string.
    unsafe { nix::libc::prctl(nix::libc::PR_SET_NAME, c"causeway-shim".as_ptr(), 0, 0, 0) };
    // What the OCI runtime leaves behind becomes our child.
    // SAFETY: no memory is involved.
    nix::errno::Errno::result(unsafe { nix::libc::prctl(nix::libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })?;
    // Better that the kernel kills a container's process than this one. Not everybody may say so.
    let _ = fs::write("/proc/self/oom_score_adj", "-998");
    fs::write(layout::PID, std::process::id().to_string())?;
    drop(held);
    Ok(())
}
