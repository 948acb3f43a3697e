//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a container: written in its directory and bind-mounted.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read, Write},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{Error, Result};

pub(crate) const HOSTS: &str = "hosts";
pub(crate) const HOSTNAME: &str = "hostname";
pub(crate) const RESOLV: &str = "resolv.conf";

/// Who answers inside a sandbox on a network that a person made.
const EMBEDDED: &str = "127.0.0.11";
/// What precedes the sum of all before it, in the last line of a resolv.conf: by it we know one that nobody edited.
const SUM: &str = "# Sum: ";
/// Docker's answer to a host without usable resolvers.
const FALLBACK: &[&str] = &["8.8.8.8", "8.8.4.4"];

/// Bytes, of a file that is read or written here: what people block advertisements with has a tenth of it.
const MOST: u64 = 64 << 20;

const LOCAL: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                     ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// The same of a container that has IPv6 off.
pub(crate) const LOCAL_IPV4: &str = "127.0.0.1\tlocalhost\n";

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

/// Whence a container's resolvers come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// causewayd's, in the sandbox: networks that a person made.
    Embedded,
    /// The host's, without those that only the host can reach: the default bridge.
    Hosts,
    /// The host's as they are: `--network host`.
    Same,
}

/// What `--dns`, `--dns-search` and `--dns-option` say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsOptions {
    pub servers: Vec<String>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

/// The content of a hosts file. `base` replaces the usual local names (`--network host` shows the host's file).
pub(crate) fn hosts(base: Option<&str>, entries: &[Entry]) -> String {
    let mut text = base.unwrap_or(LOCAL).to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for entry in entries {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}", entry.line());
    }
    text
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

/// The host's own resolver settings and whence they are: of a `resolv.conf` that names only a stub of systemd's, those
/// behind it.
pub(crate) fn host_resolv_conf() -> (&'static str, String) {
    const ALL: &str = "/etc/resolv.conf";
    const BEHIND: &str = "/run/systemd/resolve/resolv.conf";
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let text = read(ALL);
    let servers = parse(&text).servers;
    if !servers.is_empty() && servers.iter().all(|server| server == "127.0.0.53") {
        let behind = read(BEHIND);
        if !parse(&behind).servers.is_empty() {
            return (BEHIND, behind);
        }
    }
    (ALL, text)
}

fn parse(text: &str) -> DnsOptions {
    let mut dns = DnsOptions::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
            // The last one counts.
            Some("search") => dns.search = words.map(str::to_owned).collect(),
            Some("domain") if dns.search.is_empty() => dns.search.extend(words.next().map(str::to_owned)),
            Some("options") => dns.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    dns
}

/// The content of a container's resolv.conf, from the host's file at `path`. Its comments are Docker's, for some tools read
/// them.
pub(crate) fn resolv_conf(path: &str, host: &str, asked: &DnsOptions, resolution: Resolution) -> String {
    let mut dns = parse(host);
    let is_ndots = |option: &String| option.starts_with("ndots:");
    let mut ndots = if dns.options.iter().any(is_ndots) { "host" } else { "" };
    let mut overrides = Vec::new();
    let mut notes = String::new();
    if !asked.servers.is_empty() {
        overrides.push("nameservers");
    }
    if !asked.search.is_empty() {
        overrides.push("search");
        // One `.` is how a person asks for no search list at all.
        dns.search = asked.search.iter().filter(|name| *name != ".").cloned().collect();
    }
    if !asked.options.is_empty() {
        overrides.push("options");
        dns.options.clone_from(&asked.options);
        ndots = if dns.options.iter().any(is_ndots) { "override" } else { "" };
    }
    let how = match resolution {
        Resolution::Embedded => {
            let external: Vec<String> = match asked.servers.is_empty() {
                true => dns.servers.iter().map(|server| format!("host({server})")).collect(),
                false => asked.servers.clone(),
            };
            notes = match external.is_empty() {
                true => "# NO EXTERNAL NAMESERVERS DEFINED\n".to_owned(),
                false => format!("# ExtServers: [{}]\n", external.join(" ")),
            };
            dns.servers = vec![EMBEDDED.to_owned()];
            if !dns.options.iter().any(|option| option.starts_with("ndots")) {
                dns.options.push("ndots:0".to_owned());
                ndots = "internal";
            }
            " (internal resolver)"
        }
        Resolution::Hosts if asked.servers.is_empty() => {
            let loopback = |server: &String| {
                // A zone (`fe80::1%eth0`) means nothing inside the container.
                server.parse::<IpAddr>().map_or(true, |ip| ip.is_loopback())
            };
            dns.servers.retain(|server| !loopback(server));
            if dns.servers.is_empty() {
                dns.servers = FALLBACK.iter().map(|s| (*s).to_owned()).collect();
                notes = "# Used default nameservers.\n".to_owned();
            }
            " (legacy)"
        }
        Resolution::Same if asked.servers.is_empty() => "",
        Resolution::Hosts | Resolution::Same => {
            dns.servers.clone_from(&asked.servers);
            if resolution == Resolution::Hosts { " (legacy)" } else { "" }
        }
    };
    let mut text = String::from(
        "# Generated by Causeway for this container.\n# This file can be edited; Causeway will not make further changes \
         once it\n# has been modified.\n\n",
    );
    for server in &dns.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    for (keyword, words) in [("search", &dns.search), ("options", &dns.options)] {
        if !words.is_empty() {
            let _ = writeln!(text, "{keyword} {}", words.join(" "));
        }
    }
    let _ = write!(
        text,
        "\n# Based on host file: '{path}'{how}\n{notes}# Overrides: [{}]\n",
        overrides.join(" ")
    );
    if !ndots.is_empty() {
        let _ = writeln!(text, "# Option ndots from: {ndots}");
    }
    let sum = sum(&text);
    let _ = writeln!(text, "{SUM}{sum}");
    text
}

/// Whether a resolv.conf is as [`resolv_conf`] made it, whatever the host's was then.
pub(crate) fn is_unedited(resolv_conf: &str) -> bool {
    let last = resolv_conf.rfind(SUM).map(|start| resolv_conf.split_at(start));
    last.is_some_and(|(all, line)| line == format!("{SUM}{}\n", sum(all)))
}

/// FNV-1a: the same in every version of this program, and nobody is to be kept from forging it.
fn sum(text: &str) -> String {
    let add = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, add))
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

/// A file that may not exist. One that is larger than any of its kind is an error: a container can write into its own, and
/// would have us read what it likes. Blocking.
pub(crate) fn read(path: &Path) -> Result<String> {
    let result = (|| -> io::Result<String> {
        let mut text = String::new();
        match fs::File::open(path)?.take(MOST + 1).read_to_string(&mut text)? as u64 > MOST {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => Ok(text),
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

    const HOST: &str =
        "# mine\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch corp.example\noptions edns0\n";

    const PATH: &str = "/etc/resolv.conf";

    fn lines(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
    }

    #[test]
    fn a_made_network_uses_the_embedded_resolver() {
        let text = resolv_conf(PATH, HOST, &DnsOptions::default(), Resolution::Embedded);
        assert_eq!(lines(&text), ["nameserver 127.0.0.11", "search corp.example", "options edns0 ndots:0"]);
        let asked =
            DnsOptions { options: vec!["ndots:2".into()], search: vec![".".into()], ..DnsOptions::default() };
        let text = resolv_conf(PATH, HOST, &asked, Resolution::Embedded);
        assert_eq!(lines(&text), ["nameserver 127.0.0.11", "options ndots:2"]);
    }

    #[test]
    fn the_default_bridge_gets_resolvers_it_can_reach() {
        let text = resolv_conf(PATH, HOST, &DnsOptions::default(), Resolution::Hosts);
        assert_eq!(lines(&text), ["nameserver 10.0.0.1", "search corp.example", "options edns0"]);
        let text = resolv_conf(PATH, "nameserver ::1\n", &DnsOptions::default(), Resolution::Hosts);
        assert_eq!(lines(&text), ["nameserver 8.8.8.8", "nameserver 8.8.4.4"]);
        let asked = DnsOptions { servers: vec!["1.1.1.1".into()], ..DnsOptions::default() };
        assert_eq!(lines(&resolv_conf(PATH, "", &asked, Resolution::Hosts)), ["nameserver 1.1.1.1"]);
    }

    #[test]
    fn hosts_begin_with_the_local_names() {
        let entry = Entry { ip: "172.17.0.2".into(), names: vec!["web.example".into(), "web".into()] };
        let text = hosts(None, &[entry]);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost"));
        assert!(text.ends_with("\n172.17.0.2\tweb.example web\n"));
    }

    #[test]
    fn comments_of_a_resolv_conf_are_docker_s() {
        let comments = |asked: &DnsOptions, resolution| {
            let text = resolv_conf(PATH, HOST, asked, resolution);
            assert!(is_unedited(&text), "{text}");
            assert!(!is_unedited(&text.replacen("nameserver", "nameserver ", 1)));
            assert!(!is_unedited(&format!("{text}# mine\n")));
            let comments = text.rsplit_once("\n\n").unwrap().1.rsplit_once(SUM).unwrap().0;
            comments.to_owned()
        };
        assert_eq!(
            comments(&DnsOptions::default(), Resolution::Embedded),
            "# Based on host file: '/etc/resolv.conf' (internal resolver)\n# ExtServers: [host(127.0.0.53) \
             host(10.0.0.1)]\n# Overrides: []\n# Option ndots from: internal\n"
        );
        let asked = DnsOptions {
            servers: vec!["1.1.1.1".into(), "::2".into()],
            search: vec!["a".into()],
            options: vec!["ndots:3".into()],
        };
        let overrides = "# Overrides: [nameservers search options]\n# Option ndots from: override\n";
        assert_eq!(
            comments(&asked, Resolution::Embedded),
            format!(
                "# Based on host file: '/etc/resolv.conf' (internal resolver)\n# ExtServers: [1.1.1.1 ::2]\n{overrides}"
            )
        );
        assert_eq!(
            comments(&asked, Resolution::Hosts),
            format!("# Based on host file: '/etc/resolv.conf' (legacy)\n{overrides}")
        );
        assert_eq!(
            comments(&DnsOptions::default(), Resolution::Same),
            "# Based on host file: '/etc/resolv.conf'\n# Overrides: []\n"
        );
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
