//! `docker run -it` in a real terminal: the CLI runs on a pty that the test holds.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, AsRawFd},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use integration_testkit::{Host, eventually, until};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{Winsize, openpty},
};

/// A command on a terminal of its own.
struct Terminal {
    child: Child,
    master: File,
    seen: String,
}

impl Terminal {
    fn start(mut command: Command, rows: u16, columns: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let slave = File::from(pty.slave);
        command
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(Stdio::from(slave));
        // SAFETY: setsid and ioctl are async-signal-safe; the pty becomes the child's controlling terminal.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut command, || {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        Self { child: command.spawn().unwrap(), master: pty.master.into(), seen: String::new() }
    }

    fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is open and the struct outlives the call.
        assert_eq!(unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) }, 0);
    }

    /// Reads until the text has appeared, and forgets everything up to it.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            // Before the look, so that the last one comes after the deadline.
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::try_from(left).unwrap()).unwrap() == 0 {
                assert!(!left.is_zero(), "no {text:?} on the terminal, only {:?}", self.seen);
                continue;
            }
            let mut buffer = [0; 4096];
            let count = self.master.read(&mut buffer).unwrap_or(0);
            assert!(count > 0, "the terminal closed before {text:?}, after {:?}", self.seen);
            self.seen += &String::from_utf8_lossy(&buffer[..count]);
        }
    }

    fn status(&mut self) -> i32 {
        until("the command ends", || self.child.try_wait().unwrap()).code().unwrap_or(-1)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(host: &Host, args: &[&str], rows: u16, columns: u16) -> Terminal {
    let mut command = host.docker_command();
    command.env("TERM", "xterm").args(args);
    Terminal::start(command, rows, columns)
}

#[test]
fn a_shell_on_a_terminal_has_its_size_and_follows_it() {
    let host = Host::with_image();
    let mut shell = run(&host, &["run", "-it", "--rm", "--name", "cc", "box", "sh"], 30, 100);
    shell.expect("#");
    shell.type_in("test -t 0 && echo is-a-$((40+2))-tty; stty size\r");
    shell.expect("is-a-42-tty");
    shell.expect("30 100");
    shell.resize(25, 90);
    let mut tries = 0;
    // The CLI hears of it by SIGWINCH and asks the engine: soon, but not at once.
    while !shell.seen.contains("25 90") && tries < 40 {
        shell.type_in("stty size; echo asked-$((1+1))\r");
        shell.expect("\nasked-2");
        tries += 1;
        if host.docker(&["exec", "cc", "stty", "-F", "/dev/console", "size"]).stdout.contains("25 90") {
            break;
        }
    }
    shell.type_in("stty size\r");
    shell.expect("25 90");
    shell.type_in("exit 5\r");
    assert_eq!(shell.status(), 5);
}

#[test]
fn ctrl_c_reaches_the_process_in_the_foreground() {
    let host = Host::with_image();
    let mut shell = run(&host, &["run", "-it", "--rm", "--name", "cc", "box", "sh"], 24, 80);
    shell.expect("#");
    shell.type_in("sleep 1000\r");
    // The shell has handed the terminal to it when it is the group in the foreground (the eighth field of stat).
    let in_front =
        "for p in /proc/[0-9]*; do read -r i n s pp g se t f r < $p/stat; [ $g = $f ] && echo $n; done";
    eventually("sleep is in the foreground", || {
        host.docker(&["exec", "cc", "sh", "-c", in_front]).stdout.contains("(sleep)")
    });
    shell.type_in("\x03");
    // The next prompt may be lost: the kernel throws output away after it has sent the signal (n_tty.c, isig).
    shell.type_in("echo still-$((1+1))-here\r");
    shell.expect("still-2-here");
    shell.type_in("exit\r");
    shell.status();
}

#[test]
fn exec_on_a_terminal_is_a_session_of_its_own() {
    let host = Host::with_image();
    host.d("run -d --name cc box sleep 1000");
    let mut shell = run(&host, &["exec", "-it", "cc", "sh"], 33, 77);
    shell.expect("#");
    shell.type_in("stty size; tty\r");
    shell.expect("33 77");
    shell.expect("/dev/pts/");
    shell.type_in("exit 6\r");
    assert_eq!(shell.status(), 6);
}

#[test]
fn the_detach_keys_leave_the_container_running() {
    let host = Host::with_image();
    let mut shell = run(&host, &["run", "-it", "--name", "cc", "box", "sh"], 24, 80);
    shell.expect("#");
    shell.type_in("\x10\x11");
    assert_eq!(shell.status(), 0);
    assert_eq!(host.inspect("cc")["State"]["Running"], true);
    let mut again = run(&host, &["attach", "cc"], 24, 80);
    again.type_in("echo back-$((1+1))\r");
    again.expect("back-2");
    again.type_in("exit\r");
    again.status();
}
