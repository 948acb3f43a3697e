//! Settings of the kernel that a container asks for and that decide over its networks.

use std::collections::BTreeMap;

use crate::config::HostConfig;

/// Of an endpoint: settings of its interface, `net.ipv4.conf.IFNAME.log_martians=1,…`.
pub(crate) const OF_ENDPOINT: &str = "com.docker.network.endpoint.sysctls";

fn of_endpoint(options: Option<&BTreeMap<String, String>>) -> impl Iterator<Item = &str> {
    let list = options.and_then(|options| options.get(OF_ENDPOINT));
    list.into_iter().flat_map(|list| list.split(','))
}

/// Whether IPv6 is off, for the container or for one interface of it: then addresses of that family would be none.
pub(crate) fn without_ipv6(host: &HostConfig, options: Option<&BTreeMap<String, String>>) -> bool {
    let all = host.sysctls.as_ref().and_then(|sysctls| sysctls.get("net.ipv6.conf.all.disable_ipv6"));
    let off = |setting: &str| {
        let (name, value) = setting.split_once('=').unwrap_or_default();
        // The docker CLI sends options of `--network` in small letters.
        name.trim().eq_ignore_ascii_case("net.ipv6.conf.IFNAME.disable_ipv6") && value.trim() == "1"
    };
    all.is_some_and(|value| value.trim() == "1") || of_endpoint(options).any(off)
}

/// What of an interface's settings is none, in Docker's words.
pub(crate) fn malformed(options: Option<&BTreeMap<String, String>>) -> impl Iterator<Item = String> {
    let is_one = |setting: &str| {
        let Some((name, _)) = setting.split_once('=') else { return false };
        let parts: Vec<&str> = name.trim().split('.').collect();
        matches!(parts[..], ["net", "ipv4" | "ipv6" | "mpls", _, link, _] if link.eq_ignore_ascii_case("IFNAME"))
    };
    of_endpoint(options).filter(move |setting| !is_one(setting)).map(|setting| {
        format!(
            "unrecognised network interface sysctl '{setting}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' \
             must be 'ipv4', 'ipv6' or 'mpls'"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(OF_ENDPOINT.to_owned(), list.to_owned())])
    }

    #[test]
    fn ipv6_is_off_where_a_setting_says_so() {
        let off = |all: &str, list: &str| {
            let sysctls = BTreeMap::from([("net.ipv6.conf.all.disable_ipv6".to_owned(), all.to_owned())]);
            without_ipv6(&HostConfig { sysctls: Some(sysctls), ..Default::default() }, Some(&options(list)))
        };
        assert!(off("1", "") && off("0", "net.ipv4.conf.IFNAME.x=1,net.ipv6.conf.ifname.disable_ipv6=1"));
        assert!(!off("0", "") && !off("", "net.ipv6.conf.IFNAME.disable_ipv6=0"));
        assert!(!without_ipv6(&HostConfig::default(), None));
    }

    #[test]
    fn settings_of_another_interface_or_of_none_are_refused() {
        for list in [
            "x",
            "net.ipv4.ip_forward=1",
            "net.ipv4.conf.IFNAME.x",
            "net.ipv4.conf.IFNAME.x=1,net.ipv4.conf.eth0.x=1",
        ] {
            assert_eq!(malformed(Some(&options(list))).count(), 1, "{list}");
        }
        assert_eq!(malformed(Some(&options("net.ipv6.neigh.IFNAME.base_reachable_time_ms=1"))).count(), 0);
    }
}
