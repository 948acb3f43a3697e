//! What to do about published ports that the host's own firewall denies: said in the log, with every event, and before a
//! container is made.

use std::{fs, path::Path};

use libnetwork_core::{DeniedPort, Event, EventKind, Families};
use libnetwork_kernel::{InputChain, input_chains};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;

/// Where the firewalls that are driven by a command of their own say that they are on.
const UFW: &str = "/etc/ufw/ufw.conf";
const FIREWALLD: &str = "/run/firewalld";

/// Warns in the log of every published port that turns out to be denied.
pub(crate) async fn report(mut events: Receiver<Event>, end: CancellationToken) {
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = end.cancelled() => return,
        };
        match event {
            Ok(event) if event.kind == EventKind::Port => {
                let of = |name: &str| event.attributes.get(name).map(String::as_str).unwrap_or_default();
                tracing::warn!(container = of("name"), "published {}", of("message"));
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Says of denied ports what is to be done. Reads files and lists rules, so it is called where the filter was asked, on a
/// thread that may block, and once for all who hear of it.
pub(crate) fn explain(denied: &mut [DeniedPort]) {
    if denied.is_empty() {
        return;
    }
    let firewall = Firewall::look();
    for denied in denied {
        let port = format!("{}/{}", denied.port, denied.protocol);
        let clients = match denied.families {
            Families::Ipv4 => "IPv4 clients",
            Families::Ipv6 => "IPv6 clients",
            Families::Both => "clients",
        };
        denied.message = format!(
            "port {port} is denied by the host's firewall to {clients} on {}: open it by {}, or start with \
             --published-ports open",
            denied.uplink,
            firewall.remedy(&port, denied.families)
        );
    }
}

/// What the host's input is filtered by.
enum Firewall {
    Ufw,
    Firewalld,
    Rules(Vec<InputChain>),
}

impl Firewall {
    fn look() -> Self {
        let ufw = fs::read_to_string(UFW).is_ok_and(|text| text.lines().any(|l| l.trim() == "ENABLED=yes"));
        if ufw {
            Self::Ufw
        } else if Path::new(FIREWALLD).exists() {
            Self::Firewalld
        } else {
            Self::Rules(input_chains().unwrap_or_default())
        }
    }

    /// The command that opens the port (`8080/tcp`), and what has to be put into it.
    fn remedy(&self, port: &str, families: Families) -> String {
        match self {
            Self::Ufw => format!("`ufw allow {port}`"),
            Self::Firewalld => format!("`firewall-cmd --add-port={port}`"),
            Self::Rules(chains) => by_rules(port, families, chains),
        }
    }
}

/// One rule where it serves all of these clients.
fn by_rules(port: &str, families: Families, chains: &[InputChain]) -> String {
    let (ipv4, ipv6) = (by_rule(port, false, chains), by_rule(port, true, chains));
    match families {
        Families::Ipv4 => ipv4,
        Families::Ipv6 => ipv6,
        Families::Both if ipv4 == ipv6 => ipv4,
        Families::Both => format!("{ipv4} and {ipv6}"),
    }
}

/// Which chain it is that denies, a packet does not say: it is the one that drops what it does not know, or the only one.
fn by_rule(port: &str, ipv6: bool, chains: &[InputChain]) -> String {
    let (number, transport) = port.split_once('/').unwrap_or((port, "tcp"));
    let (own, other, command) = if ipv6 { ("ip6", "ip", "ip6tables") } else { ("ip", "ip6", "iptables") };
    let chains: Vec<&InputChain> = chains.iter().filter(|chain| chain.family != other).collect();
    let dropping: Vec<&InputChain> = chains.iter().copied().filter(|chain| chain.drops).collect();
    match (dropping.as_slice(), chains.as_slice()) {
        ([chain], _) | ([], [chain])
            if chain.family == own && chain.table == "filter" && chain.name == "INPUT" =>
        {
            format!("`{command} -I INPUT -p {transport} --dport {number} -j ACCEPT`")
        }
        ([chain], _) | ([], [chain]) => {
            let InputChain { family, table, name, .. } = chain;
            format!("`nft insert rule {family} {table} {name} {transport} dport {number} accept`")
        }
        // None: iptables-legacy has rules of its own.
        (_, []) => format!("`{command} -I INPUT -p {transport} --dport {number} -j ACCEPT`"),
        _ => {
            let names: Vec<String> =
                chains.iter().map(|c| format!("{} {} {}", c.family, c.table, c.name)).collect();
            let names = names.join("`, `");
            format!(
                "`nft insert rule CHAIN {transport} dport {number} accept` (CHAIN: that of `{names}` which denies it)"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_that_denies_is_named() {
        let chain = |family, table: &str, name: &str, drops| InputChain {
            family,
            table: table.into(),
            name: name.into(),
            drops,
        };
        let plain = chain("inet", "filter", "input", true);
        let other = chain("inet", "f2b", "in", false);
        let of_iptables = chain("ip", "filter", "INPUT", false);
        let six = chain("ip6", "filter", "INPUT", true);
        let nft = "`nft insert rule inet filter input tcp dport 80 accept`";
        assert_eq!(by_rule("80/tcp", false, &[plain.clone(), six.clone()]), nft);
        assert_eq!(by_rules("80/tcp", Families::Both, &[other.clone(), plain]), nft);
        let iptables = "`iptables -I INPUT -p udp --dport 80 -j ACCEPT`";
        let both = [of_iptables.clone(), six];
        assert_eq!(by_rules("80/udp", Families::Ipv4, &both), iptables);
        let ip6tables = "`ip6tables -I INPUT -p udp --dport 80 -j ACCEPT`";
        assert_eq!(by_rules("80/udp", Families::Ipv6, &both), ip6tables);
        assert_eq!(by_rules("80/udp", Families::Both, &both), format!("{iptables} and {ip6tables}"));
        assert_eq!(by_rule("80/udp", false, &[]), iptables);
        let either = by_rule("80/tcp", false, &[other, of_iptables]);
        assert!(either.contains("`inet f2b in`, `ip filter INPUT`"), "{either}");
    }
}
