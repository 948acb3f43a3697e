//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a container: written in its directory and bind-mounted.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{Error, Result};

pub(crate) const HOSTS: &str = "hosts";
pub(crate) const HOSTNAME: &str = "hostname";
pub(crate) const RESOLV: &str = "resolv.conf";

/// Bytes, of a file that is read or written here: what people block advertisements with has a tenth of it.
const MOST: u64 = 64 << 20;

const LOCAL: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                     ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// The same of a container that has IPv6 off.
const LOCAL_IPV4: &str = "127.0.0.1\tlocalhost\n";

/// A line of a hosts file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) ip: String,
    pub(crate) names: Vec<String>,
}

impl Entry {
    pub(crate) fn line(&self) -> String {
        format!("{}\t{}", self.ip, self.names.join(" "))
    }
}

/// The content of a hosts file below the usual local names, or those of a container that has IPv6 off.
pub(crate) fn hosts(ipv6: bool, entries: &[Entry]) -> String {
    (if ipv6 { LOCAL } else { LOCAL_IPV4 }).to_owned() + &lines(entries)
}

/// The content for a container that has the host's network, from the host's own file. What it was given comes first, so
/// that it counts: resolvers take the first line that has a name.
pub(crate) fn hosts_of_the_host(own: &str, entries: &[Entry]) -> String {
    lines(entries) + own
}

fn lines(entries: &[Entry]) -> String {
    entries.iter().map(|entry| entry.line() + "\n").collect()
}

/// A hosts file without the lines that are `gone`, and with those that have `come` and are not there; all else is left.
pub(crate) fn change_hosts(text: &str, gone: impl Fn(&str) -> bool, come: &[Entry]) -> String {
    let mut lines: Vec<String> = text.lines().filter(|line| !gone(line)).map(str::to_owned).collect();
    for line in come.iter().map(Entry::line) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// Changes a file that [`write`] made, one change after another. Blocking.
pub(crate) fn edit(dir: &Path, name: &str, change: impl FnOnce(&str) -> Option<String>) -> Result<()> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let text = read(&dir.join(name))?;
    match change(&text).filter(|changed| *changed != text) {
        Some(changed) => write(dir, name, &changed),
        None => Ok(()),
    }
}

/// Writes a file that may be bind-mounted somewhere: in place, since a new file would not be seen there. It is never
/// empty meanwhile: a shorter text first ends in as many empty lines as it takes to cover the longer one. Blocking.
pub(crate) fn write(dir: &Path, name: &str, content: &str) -> Result<()> {
    let path: PathBuf = dir.join(name);
    let result = (|| -> io::Result<()> {
        let mut file = fs::File::options().write(true).create(true).truncate(false).open(&path)?;
        let before = file.metadata()?.len();
        if before <= content.len() as u64 {
            return file.write_all(content.as_bytes());
        }
        let padding = (before - content.len() as u64).min(MOST);
        file.write_all(&[content.as_bytes(), &vec![b'\n'; padding as usize]].concat())?;
        file.set_len(content.len() as u64)
    })();
    result.map_err(Error::io("write", path))
}

/// A file that may not exist; what in it is not UTF-8 (a comment of old) is replaced. One that is larger than any of its kind is an error: a container can write into its own, and
/// would have us read what it likes. Blocking.
pub(crate) fn read(path: &Path) -> Result<String> {
    let result = (|| -> io::Result<String> {
        let mut bytes = Vec::new();
        match fs::File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)? as u64 > MOST {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        }
    })();
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(Error::io("read", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_begin_with_the_local_names() {
        let entry = Entry { ip: "172.17.0.2".into(), names: vec!["web.example".into(), "web".into()] };
        let text = hosts(true, std::slice::from_ref(&entry));
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost"));
        assert!(text.ends_with("\n172.17.0.2\tweb.example web\n"));
        assert_eq!(hosts(false, &[entry]), "127.0.0.1\tlocalhost\n172.17.0.2\tweb.example web\n");
    }

    #[test]
    fn only_the_lines_that_changed_change() {
        let entry = |ip: &str| Entry { ip: ip.into(), names: vec!["web".into()] };
        let text = "127.0.0.1\tlocalhost\n10.0.0.2\tweb\n# mine\n10.0.0.2 web\n10.0.0.3\tweb";
        let gone = entry("10.0.0.2").line();
        assert_eq!(
            change_hosts(text, |line| line == gone, &[entry("10.0.0.3"), entry("10.0.0.4")]),
            "127.0.0.1\tlocalhost\n# mine\n10.0.0.2 web\n10.0.0.3\tweb\n10.0.0.4\tweb\n"
        );
    }

    #[test]
    fn a_text_replaces_a_longer_and_a_shorter_one_in_the_same_file() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(HOSTS);
        write(dir.path(), HOSTS, "one\n").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        for text in ["one\ntwo\nthree\n", "four\n", ""] {
            write(dir.path(), HOSTS, text).unwrap();
            assert_eq!(read(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }

    #[test]
    fn a_file_that_its_container_blew_up_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::File::create(dir.path().join(HOSTS)).unwrap().set_len(MOST + 1).unwrap();
        let error = edit(dir.path(), HOSTS, |_| unreachable!()).unwrap_err();
        assert!(crate::error::chain(&error).contains("file too large"), "{}", crate::error::chain(&error));
    }
}
