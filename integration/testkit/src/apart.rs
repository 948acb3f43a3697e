//! Other programs, which hold nothing of the tests.
//!
//! A program that is started has a copy of every descriptor of whoever starts it until it runs: that is when `O_CLOEXEC`
//! closes them. On a busy machine that is long enough for a port that a parallel test has just closed to be still taken, and
//! for a tunnel that it let go of to be still there. So they are started by threads that share no descriptors with the tests.

use std::{
    fs::File,
    os::fd::AsRawFd,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
    process::Command,
    sync::{LazyLock, Mutex, mpsc},
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};

type Work = Box<dyn FnOnce() + Send>;

/// A thread with a table of descriptors of its own, which the threads that it starts share with it.
static STARTER: LazyLock<Mutex<mpsc::Sender<Work>>> = LazyLock::new(|| {
    let (sender, works) = mpsc::channel::<Work>();
    thread::spawn(move || {
        let unshare = libc::CLOSE_RANGE_UNSHARE as libc::c_int;
        // SAFETY: this thread has opened nothing yet; what it closes are the copies that it gets by this call.
        let closed = unsafe { libc::close_range(3, libc::c_uint::MAX, unshare) };
        assert_eq!(closed, 0, "{}", std::io::Error::last_os_error());
        works.into_iter().for_each(|work| drop(thread::spawn(work)));
    });
    Mutex::new(sender)
});

/// What comes of work that goes on by itself.
pub struct Apart<T>(mpsc::Receiver<thread::Result<T>>);

impl<T> Apart<T> {
    /// Waits for it, and panics as it did.
    pub fn join(self) -> T {
        self.wait().unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Waits for it.
    pub fn wait(self) -> thread::Result<T> {
        self.0.recv().unwrap()
    }
}

/// Begins work on a thread without descriptors, in the network namespace of that path, `/proc/self` being this process, or
/// in that of its first thread. Nothing that has a descriptor may go in or come out; what such work opens is open for all of it.
pub fn apart<T: Send + 'static>(
    namespace: Option<PathBuf>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Apart<T> {
    let (sender, result) = mpsc::channel();
    let work = move || {
        let enter_and_work = || {
            let path = namespace.unwrap_or_else(|| "/proc/self/ns/net".into());
            setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        let _ = sender.send(catch_unwind(AssertUnwindSafe(enter_and_work)));
    };
    STARTER.lock().unwrap().send(Box::new(work)).unwrap();
    Apart(result)
}

/// Takes the calling thread to a new network namespace, with loopback up.
pub fn enter_new_namespace() -> File {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let namespace = File::open("/proc/thread-self/ns/net").unwrap();
    let path = format!("/proc/self/fd/{}", namespace.as_raw_fd()).into();
    let up = || Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(apart(Some(path), up).join().success());
    namespace
}

/// Runs a test in a network namespace of its own: of the machine's, anybody's programs take ports at any moment.
pub fn alone(test: impl FnOnce() + Send) {
    let run = || {
        enter_new_namespace();
        test();
    };
    if let Err(panic) = thread::scope(|scope| scope.spawn(run).join()) {
        resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::{TcpListener, TcpStream},
        process::Stdio,
    };

    use super::*;

    /// The work cannot see the socket, and so neither can what it starts.
    #[test]
    fn a_socket_that_is_open_here_is_not_open_there() {
        apart(None, || ()).join();
        let (listener, client) = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (listener.accept().unwrap().0, client)
        };
        let (started, is_started) = mpsc::channel();
        let (end, is_over) = mpsc::channel::<()>();
        let there = apart(None, move || {
            let open = std::fs::read_dir("/proc/thread-self/fd").unwrap();
            let open = open.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
            let sockets = open.filter(|to| to.to_string_lossy().starts_with("socket:")).count();
            let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
            started.send(sockets).unwrap();
            let _ = is_over.recv();
            drop(child.stdin.take());
            child.wait().unwrap();
        });
        assert_eq!(is_started.recv().unwrap(), 0);
        drop(listener);
        // It ends at once, though the program runs on.
        assert_eq!((&client).read(&mut [0]).unwrap(), 0);
        drop(end);
        there.join();
    }
}
