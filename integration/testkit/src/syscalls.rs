use std::{
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, ExitStatus},
};

use nix::{
    errno::Errno,
    fcntl::readlink,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev},
    unistd::Pid,
};

/// The number that the filter's listener has in the process that is watched, until we have fetched it.
const LISTENER: RawFd = 187;

/// A process that asks us before each of some system calls, by seccomp_unotify(2). Killed when dropped.
///
/// Nothing in the program that is watched knows of it: it may be the real one.
pub struct Watched {
    child: Child,
    pidfd: OwnedFd,
    listener: OwnedFd,
}

/// One system call that waits for us to decide.
pub struct Call<'a> {
    /// Its thread's id.
    thread: Pid,
    pidfd: &'a OwnedFd,
    /// As in `libc::SYS_…`.
    pub number: i64,
    pub arguments: [u64; 6],
}

/// What becomes of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Proceed,
    /// It is not made, and fails so.
    Refuse(Errno),
    /// It is not made, and returns this: whoever decided has done what it was to do.
    Return(i64),
    /// It is not made: the process gets SIGKILL.
    Kill,
}

impl Watched {
    /// Starts a command that waits for [`Watched::run`] at the first of these system calls (`libc::SYS_…`). Of
    /// `openat` only those that may make a file count.
    pub fn start(mut command: Command, calls: &[i64]) -> Self {
        let filter = filter(calls);
        let install = move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            // SAFETY: the program lives until the call returns, and the kernel copies it; the rest are numbers.
            let done = unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
                let listener = libc::syscall(
                    libc::SYS_seccomp,
                    libc::SECCOMP_SET_MODE_FILTER,
                    flags,
                    &raw const program,
                );
                listener >= 0 && libc::dup2(listener as RawFd, LISTENER) >= 0
            };
            if done { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // SAFETY: nothing but system calls happens between fork and exec.
        let child = unsafe { command.pre_exec(install) }.spawn().unwrap();
        // SAFETY: plain numbers; the descriptors that are returned are ours.
        let (pidfd, listener) = unsafe {
            let pidfd = owned(libc::syscall(libc::SYS_pidfd_open, child.id(), 0)).unwrap();
            let listener = fetch(&pidfd, LISTENER).unwrap();
            (pidfd, listener)
        };
        Self { child, pidfd, listener }
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Decides about each call until the process ends.
    pub fn run(mut self, mut decide: impl FnMut(&Call<'_>) -> Verdict) -> ExitStatus {
        while let Some(notice) = self.next() {
            let call = Call {
                thread: Pid::from_raw(notice.pid as i32),
                pidfd: &self.pidfd,
                number: i64::from(notice.data.nr),
                arguments: notice.data.args,
            };
            let verdict = decide(&call);
            if verdict == Verdict::Kill {
                self.child.kill().unwrap();
                break;
            }
            self.answer(notice.id, verdict);
        }
        self.child.wait().unwrap()
    }

    /// None when the process has ended.
    fn next(&self) -> Option<libc::seccomp_notif> {
        loop {
            let both = [&self.listener, &self.pidfd];
            let mut both = both.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
            poll(&mut both, PollTimeout::NONE).unwrap();
            let [call, end] = both.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
            if call.contains(PollFlags::POLLIN) {
                // SAFETY: all zeroes is what the kernel asks for; it fills in what it has.
                let mut notice: libc::seccomp_notif = unsafe { MaybeUninit::zeroed().assume_init() };
                let fd = self.listener.as_raw_fd();
                // SAFETY: the descriptor is a listener, and the structure the kernel's.
                if unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notice) } == 0 {
                    return Some(notice);
                }
            } else if !end.is_empty() || !call.is_empty() {
                return None;
            }
        }
    }

    fn answer(&self, id: u64, verdict: Verdict) {
        let (val, error, flags) = match verdict {
            Verdict::Refuse(errno) => (0, -(errno as i32), 0),
            Verdict::Return(value) => (value, 0, 0),
            _ => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        };
        let mut reply = libc::seccomp_notif_resp { id, val, error, flags };
        let fd = self.listener.as_raw_fd();
        // One whose thread was killed meanwhile wants no answer.
        // SAFETY: as above.
        unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut reply) };
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Call<'_> {
    /// Of the caller's memory.
    pub fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let remote = [RemoteIoVec { base: address as usize, len: length }];
        let count =
            process_vm_readv(self.thread, &mut [io::IoSliceMut::new(&mut bytes)], &remote).unwrap_or(0);
        bytes.truncate(count);
        bytes
    }

    pub fn write(&self, address: u64, bytes: &[u8]) {
        let remote = [RemoteIoVec { base: address as usize, len: bytes.len() }];
        process_vm_writev(self.thread, &[io::IoSlice::new(bytes)], &remote).unwrap();
    }

    /// What a descriptor of the caller is: a path, or the likes of `socket:[1234]` and `anon_inode:[eventfd]`.
    pub fn target(&self, fd: u64) -> String {
        let path = format!("/proc/{}/fd/{fd}", self.thread);
        readlink(path.as_str()).map_or(String::new(), |target| target.to_string_lossy().into_owned())
    }

    /// The same open file as the caller's descriptor.
    pub fn descriptor(&self, fd: u64) -> OwnedFd {
        // SAFETY: a pidfd, and a number.
        unsafe { fetch(self.pidfd, fd as RawFd) }.unwrap()
    }

    /// The netlink protocol of a descriptor (`NETLINK_ROUTE`, …); none for anything else.
    pub fn netlink(&self, fd: u64) -> Option<i32> {
        if !self.target(fd).starts_with("socket:") {
            return None;
        }
        let socket = self.descriptor(fd);
        let option = |name| {
            let (mut value, mut length) = (0, size_of::<i32>() as libc::socklen_t);
            let (fd, at) = (socket.as_raw_fd(), (&raw mut value).cast());
            // SAFETY: the value has the length that is said.
            let done = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, at, &raw mut length) };
            (done == 0).then_some(value)
        };
        (option(libc::SO_DOMAIN)? == libc::AF_NETLINK).then(|| option(libc::SO_PROTOCOL))?
    }
}

/// # Safety
///
/// A descriptor that a system call just made for us, or its error.
unsafe fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    // SAFETY: as the caller says.
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }) }
}

/// # Safety
///
/// None but that of numbers.
unsafe fn fetch(pidfd: &OwnedFd, fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers; what is returned is a new descriptor of ours.
    unsafe { owned(libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0)) }
}

/// Classic BPF over struct seccomp_data (linux/seccomp.h): the number at 0, the arguments from 16 on.
fn filter(calls: &[i64]) -> Vec<libc::sock_filter> {
    let load = |at: u32| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
    let end = |action: u32| statement(libc::BPF_RET | libc::BPF_K, action);
    let jump = |test: u32, value: u32, yes: u8, no: u8| libc::sock_filter {
        jt: yes,
        jf: no,
        ..statement(libc::BPF_JMP | libc::BPF_K | test, value)
    };
    let mut program = vec![load(0)];
    for call in calls {
        if *call == libc::SYS_openat {
            program.push(jump(libc::BPF_JEQ, *call as u32, 0, 4));
            program.push(load(32));
            program.push(jump(libc::BPF_JSET, libc::O_CREAT as u32, 0, 1));
        } else {
            program.push(jump(libc::BPF_JEQ, *call as u32, 0, 1));
        }
        program.push(end(libc::SECCOMP_RET_USER_NOTIF));
        if *call == libc::SYS_openat {
            program.push(end(libc::SECCOMP_RET_ALLOW));
        }
    }
    program.push(end(libc::SECCOMP_RET_ALLOW));
    program
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}
