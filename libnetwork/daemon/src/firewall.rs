//! What to do about published ports that the host's own firewall denies: said in the log, with every event, and before a
//! container is made.

use std::{fs, path::Path};

use libnetwork_core::{DeniedPort, Event, EventKind};
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
                tracing::warn!(container = of("name"), "published {}", denial(of("port"), of("uplink")));
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// `port` is number and transport: `8080/tcp`.
pub(crate) fn denial(port: &str, uplink: &str) -> String {
    format!(
        "port {port} is denied by the host's firewall to clients on {uplink}: open it by {}, or start with \
         --published-ports open",
        remedy(port)
    )
}

pub(crate) fn name(port: &DeniedPort) -> String {
    format!("{}/{}", port.port, port.protocol)
}

/// The command that opens the port, and what has to be put into it.
fn remedy(port: &str) -> String {
    let ufw = fs::read_to_string(UFW).is_ok_and(|text| text.lines().any(|l| l.trim() == "ENABLED=yes"));
    if ufw {
        return format!("`ufw allow {port}`");
    }
    if Path::new(FIREWALLD).exists() {
        return format!("`firewall-cmd --add-port={port}`");
    }
    by_rule(port, &input_chains().unwrap_or_default())
}

/// Which chain it is that denies, a packet does not say: it is the one that drops what it does not know, or the only one.
fn by_rule(port: &str, chains: &[InputChain]) -> String {
    let (number, transport) = port.split_once('/').unwrap_or((port, "tcp"));
    // What is asked about is IPv4.
    let chains: Vec<&InputChain> = chains.iter().filter(|chain| chain.family != "ip6").collect();
    let dropping: Vec<&InputChain> = chains.iter().copied().filter(|chain| chain.drops).collect();
    match (dropping.as_slice(), chains.as_slice()) {
        ([chain], _) | ([], [chain])
            if chain.family == "ip" && chain.table == "filter" && chain.name == "INPUT" =>
        {
            format!("`iptables -I INPUT -p {transport} --dport {number} -j ACCEPT`")
        }
        ([chain], _) | ([], [chain]) => {
            let InputChain { family, table, name, .. } = chain;
            format!("`nft insert rule {family} {table} {name} {transport} dport {number} accept`")
        }
        // None: iptables has rules of its own.
        (_, []) => format!("`iptables -I INPUT -p {transport} --dport {number} -j ACCEPT`"),
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
        assert_eq!(by_rule("80/tcp", &[plain.clone(), six.clone()]), nft);
        assert_eq!(by_rule("80/tcp", &[other.clone(), plain]), nft);
        let iptables = "`iptables -I INPUT -p udp --dport 80 -j ACCEPT`";
        assert_eq!(by_rule("80/udp", &[of_iptables.clone(), six]), iptables);
        assert_eq!(by_rule("80/udp", &[]), iptables);
        let either = by_rule("80/tcp", &[other, of_iptables]);
        assert!(either.contains("`inet f2b in`, `ip filter INPUT`"), "{either}");
    }
}
