//! What there is in the kernel and in the directories, as text in which no name is left to chance.

use std::collections::BTreeMap;

use libnetwork_rpc::{client::Client, v1};

use crate::host::Host;

/// For one namespace: links, addresses, routes and neighbours, bridge ports and forwarding, rules.
const LOOK: &str = "ip -o -b - <<END\nlink show\naddr show\nroute show\nneigh show nud permanent\nEND\n\
     ip -6 route; bridge -d -o -b - <<END\nlink show\nfdb show\nEND\nnft -s list ruleset\n";

/// The whole of a host, and what of it is ours by the daemon's own account.
pub(crate) async fn picture(host: &Host, client: &mut Client) -> String {
    let networks = client.list_networks(v1::ListNetworksRequest {}).await.unwrap().into_inner().networks;
    let mut names = BTreeMap::new();
    for network in &networks {
        names.insert(network.id.clone(), format!("<{}>", network.name));
        names.insert(network.id[..12].to_owned(), format!("<{}>", network.name));
        for endpoint in &network.endpoints {
            let name = format!("<{}@{}>", endpoint.sandbox_name, network.name);
            names.insert(endpoint.id.clone(), name.clone());
            names.insert(endpoint.host_link.clone(), name);
        }
    }
    let run = host.run_dir().display().to_string();
    let text = host.sh(&format!(
        "look() {{\n{LOOK}}}\nlook; for ns in $(ls {run}/netns); do echo \"sandbox $ns\"; \
         nsenter --net={run}/netns/$ns -- sh -c '{LOOK}'; done; echo pins; find {run}/bpf | sort; \
         echo files; ls {run}",
    ));
    let text = text.replace(&run, "RUN");
    let text = names.iter().rev().fold(text, |text, (id, name)| text.replace(id.as_str(), name));
    let sandboxes = client.list_sandboxes(v1::ListSandboxesRequest {}).await.unwrap().into_inner().sandboxes;
    let ports = sandboxes.iter().map(|s| format!("\n{} {:?}", s.name, s.ports)).collect::<String>();
    sections(&sorted_elements(&text)) + &ports
}

/// Rules in their order; everything else sorted, namespace by namespace: what was made in another order is listed in
/// another order.
fn sections(text: &str) -> String {
    let mut sections: Vec<Vec<String>> = vec![Vec::new()];
    let mut rules = false;
    for line in text.lines() {
        if line.starts_with("sandbox ") || line == "pins" {
            sections.push(Vec::new());
            rules = false;
        } else if line.starts_with("table ") && !rules {
            sections.push(Vec::new());
            rules = true;
        }
        let section = sections.last_mut().unwrap();
        if rules {
            section.push(line.trim().to_owned());
        } else {
            section.extend(plain(line));
            section.sort();
        }
    }
    sections.concat().join("\n")
}

/// A line without what differs from one look to the next: states that settle by themselves, numbers of links, Ethernet
/// addresses that the kernel chose. None for what the kernel does for itself.
fn plain(line: &str) -> Option<String> {
    let line = line.split_once(": ").filter(|(n, _)| n.parse::<u32>().is_ok()).map_or(line, |(_, rest)| rest);
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |name: &str| words.iter().skip_while(|word| **word != name).nth(1).copied().unwrap_or("-");
    let name = || words[0].split('@').next().unwrap_or_default().trim_end_matches(':').to_owned();
    if line.contains(" hairpin ") {
        return Some(format!("port isolated={}", after("isolated")));
    }
    if line.contains(" mtu ") {
        let up = words[1].trim_matches(['<', '>']).split(',').any(|flag| flag == "UP");
        let [mtu, master, group, alias] = ["mtu", "master", "group", "alias"].map(after);
        return Some(format!("{} up={up} mtu={mtu} master={master} group={group} alias={alias}", name()));
    }
    if words.get(1).is_some_and(|word| word.starts_with("inet")) {
        return (!words[2].starts_with("fe80:")).then(|| words[..3].join(" "));
    }
    // Entries of the forwarding database: only those that somebody made.
    let learned = line.contains("33:33:") || line.contains("01:00:5e:") || line.ends_with(" permanent");
    let forwarding = words.first().is_some_and(|word| word.split(':').count() == 6) && words.contains(&"dev");
    let own = line.starts_with("fe80:") || line.starts_with("ff00:");
    (!own && !(forwarding && (learned || !words.contains(&"static"))))
        .then(|| line.replace(" linkdown", "").trim().to_owned())
}

/// The elements of a set come in an order of the kernel's choosing.
fn sorted_elements(text: &str) -> String {
    let mut pieces = text.split("elements = {");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (inside, rest) = piece.split_once('}').unwrap_or((piece, ""));
        let mut elements: Vec<String> = inside.split(',').map(element).collect();
        elements.sort();
        out += &format!("elements = {{ {} }}{rest}", elements.join(", "));
    }
    out
}

/// One element; of a bridge's own Ethernet address, which comes by chance, only that there is one. The containers' have
/// their leases in them, 10.61.0.0/24 and 10.62.0.0/24.
fn element(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.split_once(" : ") {
        Some((key, mac)) if mac.split(':').count() == 6 && !mac.starts_with("02:42:0a:3") => {
            format!("{key} : <mac>")
        }
        _ => text,
    }
}
