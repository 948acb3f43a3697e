//! Lookups as sentences and lines.

use std::fmt::Write;

use super::Lookup;

/// The answer to one question, and why it is that.
pub(super) fn answer(lookup: &Lookup) -> String {
    let truncated = if lookup.truncated { ", truncated" } else { "" };
    let mut out =
        format!("{} {}  {}{truncated}  {:.2} ms\n", lookup.name, lookup.r#type, lookup.code, lookup.took_ms);
    let width = lookup.answers.iter().map(|r| r.name.len()).max().unwrap_or(0);
    for record in &lookup.answers {
        let _ =
            writeln!(out, "  {:width$}  {:>5}  {:5} {}", record.name, record.ttl, record.r#type, record.data);
    }
    out + &because(lookup) + "\n"
}

/// One lookup of many.
pub(super) fn line(lookup: &Lookup) -> String {
    let told = match lookup.answers.as_slice() {
        [] => String::new(),
        records => {
            let data: Vec<&str> = records.iter().map(|r| r.data.as_str()).collect();
            format!("  {}", data.join(", "))
        }
    };
    let question =
        if lookup.name.is_empty() { "?".to_owned() } else { format!("{} {}", lookup.name, lookup.r#type) };
    format!(
        "{}  {}  {question}  {}{told}  ({})  {:.2} ms",
        lookup.time,
        lookup.container,
        lookup.code,
        because(lookup),
        lookup.took_ms
    )
}

fn because(lookup: &Lookup) -> String {
    let upstream = &lookup.upstream;
    match lookup.source.as_str() {
        "container" => {
            let holders = lookup.holders.join(", ");
            let containers = if lookup.holders.len() == 1 { "container" } else { "containers" };
            let what = if lookup.is_alias { "an alias" } else { "the name" };
            let none = if lookup.answers.is_empty() { ", which has no such record" } else { "" };
            format!(
                "{} is {what} of {containers} {holders} on network {}{none}",
                lookup.matched, lookup.network
            )
        }
        "address" => format!("the address is leased on network {}", lookup.network),
        "host" => "the name is the host's: its address on the container's way out".to_owned(),
        "upstream" => format!("no container's name; upstream server {upstream} answered"),
        "cache" => {
            let age = lookup.age_ms.unwrap_or_default() as f64 / 1e3;
            format!("no container's name; kept from upstream server {upstream}, {age:.1} s ago")
        }
        "unanswered" => "no container's name, and no upstream server answered".to_owned(),
        "confined" => {
            "no container's name, and questions from internal networks do not leave the host".to_owned()
        }
        "crowded" => {
            "no container's name, and too many of the container's questions are under way".to_owned()
        }
        "malformed" => "no query that can be answered".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use libnetwork_rpc::v1;

    use super::*;

    fn lookup(change: impl FnOnce(&mut v1::Lookup)) -> Lookup {
        let mut message = v1::Lookup {
            time_ns: 1_000_000,
            took_ns: 80_000,
            container: "client".into(),
            name: "pool.".into(),
            r#type: "A".into(),
            code: "NOERROR".into(),
            ..Default::default()
        };
        change(&mut message);
        message.into()
    }

    #[test]
    fn an_answer_says_which_containers_have_the_name() {
        let record = |data: &str| v1::DnsRecord {
            name: "pool.".into(),
            ttl: 5,
            r#type: "A".into(),
            data: data.into(),
        };
        let held = lookup(|m| {
            m.answers = vec![record("10.0.0.2"), record("10.0.0.3")];
            m.source = "container".into();
            (m.network, m.matched, m.is_alias) = ("app".into(), "pool".into(), true);
            m.holders = vec!["a".into(), "b".into()];
        });
        let why = "pool is an alias of containers a, b on network app";
        let told =
            "pool. A  NOERROR  0.08 ms\n  pool.      5  A     10.0.0.2\n  pool.      5  A     10.0.0.3\n";
        assert_eq!(answer(&held), format!("{told}{why}\n"));
        let line_of_it = "1970-01-01T00:00:00.001Z  client  pool. A  NOERROR  10.0.0.2, 10.0.0.3";
        assert_eq!(line(&held), format!("{line_of_it}  ({why})  0.08 ms"));
    }

    #[test]
    fn what_upstream_servers_said_is_told_from_what_is_kept() {
        let kept = lookup(|m| {
            m.source = "cache".into();
            (m.upstream, m.age_ms) = ("192.0.2.53".into(), 1500);
        });
        assert!(answer(&kept).contains("kept from upstream server 192.0.2.53, 1.5 s ago"));
        assert!(
            line(&lookup(|m| (m.name, m.source) = (String::new(), "malformed".into()))).contains("  ?  ")
        );
    }
}
