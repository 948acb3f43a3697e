//! A container's `/etc/resolv.conf`, in the form and with the comments of Docker's.

use std::{fmt::Write as _, net::IpAddr};

use crate::files::read;

/// Who answers inside a sandbox on a network that a person made.
const EMBEDDED: &str = "127.0.0.11";
/// What precedes the sum of all before it, in the last line of a resolv.conf: by it we know one that nobody edited.
const SUM: &str = "# Sum: ";
/// Docker's answer to a host without usable resolvers: by IPv4, and by IPv6.
const FALLBACK: [[&str; 2]; 2] = [["8.8.8.8", "8.8.4.4"], ["2001:4860:4860::8888", "2001:4860:4860::8844"]];

const NDOTS: &str = "ndots:";

/// Whence a container's resolvers come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// causewayd's, in the sandbox: networks that a person made.
    Embedded,
    /// The host's, without those that only the host can reach: the default bridge, with IPv6 or without.
    Hosts { ipv6: bool },
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

/// The host's own resolver settings and whence they are: of a `resolv.conf` that names only a stub of systemd's, those
/// behind it.
pub(crate) fn host_resolv_conf() -> (&'static str, String) {
    const ALL: &str = "/etc/resolv.conf";
    const BEHIND: &str = "/run/systemd/resolve/resolv.conf";
    let read = |path: &str| read(path.as_ref()).unwrap_or_default();
    let text = read(ALL);
    let servers = parse(&text).0.servers;
    if !servers.is_empty() && servers.iter().all(|server| server == "127.0.0.53") {
        let behind = read(BEHIND);
        if !parse(&behind).0.servers.is_empty() {
            return (BEHIND, behind);
        }
    }
    (ALL, text)
}

/// As resolv.conf(5) has it, and the lines that say something else (`sortlist`), which are passed on as they are.
fn parse(text: &str) -> (DnsOptions, Vec<&str>) {
    let (mut dns, mut others) = (DnsOptions::default(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned).peekable();
        match words.next().as_deref() {
            Some("nameserver") => dns.servers.extend(words.next().filter(|server| is_address(server))),
            // `domain` is an old name for the same; the last one counts.
            Some("search" | "domain") if words.peek().is_some() => dns.search = words.collect(),
            Some("options") => dns.options.extend(words),
            None | Some("search" | "domain") => {}
            Some(word) if word.starts_with(['#', ';']) => {}
            Some(_) => others.push(line),
        }
    }
    (dns, others)
}

fn is_address(server: &str) -> bool {
    server.split('%').next().is_some_and(|address| address.parse::<IpAddr>().is_ok())
}

/// An `ndots` says a number.
fn is_sound(option: &str) -> bool {
    option.strip_prefix(NDOTS).is_none_or(|number| number.parse::<u32>().is_ok())
}

/// The content of a container's resolv.conf, from the host's file at `path`. Its comments are Docker's, for some tools read
/// them.
pub(crate) fn resolv_conf(path: &str, host: &str, asked: &DnsOptions, resolution: Resolution) -> String {
    let (mut dns, others) = parse(host);
    let is_ndots = |option: &String| option.starts_with(NDOTS);
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
            dns.options.retain(|option| is_sound(option));
            if !dns.options.iter().any(is_ndots) {
                dns.options.push("ndots:0".to_owned());
                ndots = "internal";
            }
            " (internal resolver)"
        }
        Resolution::Hosts { ipv6 } if asked.servers.is_empty() => {
            // A zone (`fe80::1%eth0`) means nothing inside the container.
            let is_of_use = |ip: IpAddr| !ip.is_loopback() && (ipv6 || ip.is_ipv4());
            dns.servers.retain(|server| server.parse().is_ok_and(is_of_use));
            if dns.servers.is_empty() {
                let families = if ipv6 { 2 } else { 1 };
                dns.servers = FALLBACK[..families].concat().into_iter().map(str::to_owned).collect();
                notes = "# Used default nameservers.\n".to_owned();
            }
            " (legacy)"
        }
        Resolution::Same if asked.servers.is_empty() => "",
        Resolution::Hosts { .. } | Resolution::Same => {
            dns.servers.clone_from(&asked.servers);
            if resolution == Resolution::Same { "" } else { " (legacy)" }
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
    for line in others {
        let _ = writeln!(text, "{line}");
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str =
        "# mine\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch corp.example\noptions edns0\n";

    const LEGACY: Resolution = Resolution::Hosts { ipv6: false };

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
        let text = resolv_conf(PATH, HOST, &DnsOptions::default(), LEGACY);
        assert_eq!(lines(&text), ["nameserver 10.0.0.1", "search corp.example", "options edns0"]);
        let text = resolv_conf(PATH, "nameserver ::1\n", &DnsOptions::default(), LEGACY);
        assert_eq!(lines(&text), ["nameserver 8.8.8.8", "nameserver 8.8.4.4"]);
        let asked = DnsOptions { servers: vec!["1.1.1.1".into()], ..DnsOptions::default() };
        assert_eq!(lines(&resolv_conf(PATH, "", &asked, LEGACY)), ["nameserver 1.1.1.1"]);
    }

    #[test]
    fn the_default_bridge_is_led_to_ipv6_only_where_it_has_it() {
        let of = |host: &str, ipv6| {
            let text = resolv_conf(PATH, host, &DnsOptions::default(), Resolution::Hosts { ipv6 });
            lines(&text).join(", ").replace("nameserver ", "")
        };
        let both = "nameserver 2001:db8::53\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\n";
        assert_eq!(of(both, true), "2001:db8::53, 10.0.0.1");
        assert_eq!(of(both, false), "10.0.0.1");
        assert_eq!(of("nameserver 2001:db8::53\n", false), "8.8.8.8, 8.8.4.4");
        assert_eq!(of("", true), "8.8.8.8, 8.8.4.4, 2001:4860:4860::8888, 2001:4860:4860::8844");
    }

    #[test]
    fn the_host_s_file_is_read_as_resolvers_read_it() {
        let host = "; old\nsearch a.example\ndomain b.example c.example\nsortlist 10.0.0.0/8\nnameserver nobody\n\
                    nameserver 10.0.0.1\noptions ndots:many edns0\nsearch\n";
        let text = resolv_conf(PATH, host, &DnsOptions::default(), Resolution::Same);
        let own = [
            "nameserver 10.0.0.1",
            "search b.example c.example",
            "options ndots:many edns0",
            "sortlist 10.0.0.0/8",
        ];
        assert_eq!(lines(&text), own);
        let text = resolv_conf(PATH, host, &DnsOptions::default(), Resolution::Embedded);
        assert!(text.contains("\noptions edns0 ndots:0\n") && text.contains("from: internal"), "{text}");
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
            comments(&asked, LEGACY),
            format!("# Based on host file: '/etc/resolv.conf' (legacy)\n{overrides}")
        );
        assert_eq!(
            comments(&DnsOptions::default(), Resolution::Same),
            "# Based on host file: '/etc/resolv.conf'\n# Overrides: []\n"
        );
    }
}
