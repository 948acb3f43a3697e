//! Where ports are published, kept as ranges, as [`PortSet`](super::PortSet) keeps ports.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

use super::{
    host::{PortBinding, PortMap},
    port_run::{Place, Places, Run},
    port_set::{Key, Ports},
};
use crate::ports::ContainerPort;

/// What [`PortMap`] says, neighbouring ports that lead to neighbouring ports as one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortBindings {
    /// In order; none has a port of another.
    runs: Vec<Run>,
    /// What has a key that is kept as it was written.
    other: PortMap,
}

impl PortBindings {
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.other.is_empty()
    }

    /// Port by port, as Docker's API has them.
    pub fn to_map(&self) -> PortMap {
        let runs = self.runs.iter().flat_map(Run::each);
        let mut map: PortMap = runs.map(|(port, bindings)| (port.to_string(), bindings)).collect();
        map.extend(self.other.clone());
        map
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// What is published by keys that are not the plain text of a port.
    pub(crate) fn other(&self) -> &PortMap {
        &self.other
    }

    /// As it is kept on the disk. Only [`PortBindings::unfolded`] understands it.
    pub(crate) fn folded(mut self) -> Self {
        let many = self.runs.extract_if(.., |run| run.ports.count() > 1);
        self.other.extend(many.map(|run| run.written()));
        self
    }

    /// What was folded; also what never was.
    pub(crate) fn unfolded(mut self) -> Self {
        let mut runs = Vec::new();
        self.other.retain(|key, bindings| {
            let run = Run::read(key, bindings);
            runs.extend(run.clone());
            run.is_none()
        });
        if !runs.is_empty() {
            self.add(runs);
        }
        self
    }

    /// Adds runs of ports that are in none of these.
    fn add(&mut self, runs: Vec<Run>) {
        self.runs.extend(runs);
        self.runs.sort_by_key(|run| run.ports);
        self.runs.dedup_by(|next, run| run.takes(next));
        self.runs.shrink_to_fit();
    }

    fn of(entries: impl Iterator<Item = (Key, Option<Box<[Place]>>)>) -> Self {
        let mut all = Self::default();
        let mut runs: Vec<Run> = Vec::new();
        for (key, places) in entries {
            match key {
                Key::Other(text) => {
                    let bindings = places.map(|places| places.iter().map(|place| place.at(0)).collect());
                    all.other.insert(text, bindings);
                }
                // Sorted as texts, most ports come right after the one before.
                Key::Port(port) => {
                    let next = Run { ports: Ports::one(port), places };
                    if !runs.last_mut().is_some_and(|run| run.takes(&next)) {
                        runs.push(next);
                    }
                }
            }
        }
        let overlap = |runs: &[Run]| {
            let mut ports: Vec<Ports> = runs.iter().map(|run| run.ports).collect();
            ports.sort_unstable();
            ports.windows(2).any(|two| two[0].protocol == two[1].protocol && two[1].first <= two[0].last)
        };
        if overlap(&runs) {
            // A port that is there twice: what is said last counts, as in every object.
            let last: BTreeMap<ContainerPort, _> = runs.iter().flat_map(Run::each).collect();
            runs = last.iter().map(|(port, bindings)| Run::of(*port, bindings.as_deref())).collect();
        }
        all.add(runs);
        all
    }
}

impl From<PortMap> for PortBindings {
    fn from(map: PortMap) -> Self {
        let place = |binding: &PortBinding| Place::of(&binding.host_ip, &binding.host_port);
        Self::of(map.iter().map(|(key, bindings)| {
            (key.as_str().into(), bindings.as_ref().map(|bindings| bindings.iter().map(place).collect()))
        }))
    }
}

impl Serialize for PortBindings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_map().serialize(serializer)
    }
}

/// A [`PortBinding`], of which only what is to be kept is copied.
impl<'de> Deserialize<'de> for PortBindings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = PortBindings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with ports for keys")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PortBindings, A::Error> {
                let mut failed = None;
                let bindings = PortBindings::of(std::iter::from_fn(|| {
                    let entry = map.next_entry::<Key, Option<Places>>();
                    let entry = entry.map_err(|error| failed = Some(error)).ok().flatten();
                    entry.map(|(key, places)| (key, places.map(|places| places.0)))
                }));
                failed.map_or(Ok(bindings), Err)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> PortBindings {
        serde_json::from_str(json).unwrap()
    }

    fn stored(bindings: &PortBindings) -> String {
        serde_json::to_string(&bindings.clone().folded()).unwrap()
    }

    fn range(ports: std::ops::RangeInclusive<u16>, host: impl Fn(u16) -> String) -> PortBindings {
        let binding = |n| PortBinding { host_ip: String::new(), host_port: host(n) };
        let map: PortMap = ports.map(|n| (format!("{n}/tcp"), Some(vec![binding(n)]))).collect();
        PortBindings::from(map)
    }

    #[test]
    fn bindings_come_back_as_they_were_written() {
        for json in [
            "{}",
            r#"{"80/tcp":null,"81/tcp":null,"82/tcp":[],"83/tcp":[]}"#,
            r#"{"80":[{"HostIp":"","HostPort":"80"}],"80/TCP":null,"8000-8001/tcp":[],"x":null}"#,
            r#"{"80/tcp":[{"HostIp":"","HostPort":"8080"},{"HostIp":"::1","HostPort":"090"}],"81/tcp":[{"HostIp":"","HostPort":"8081"},{"HostIp":"::1","HostPort":"090"}],"82/udp":[{"HostIp":"","HostPort":"8082"}]}"#,
            r#"{"65534/tcp":[{"HostIp":"","HostPort":"65535"}],"65535/tcp":[{"HostIp":"","HostPort":"1"}]}"#,
            r#"{"80/tcp":[{"HostIp":"","HostPort":"9-10"}],"81/tcp":[{"HostIp":"","HostPort":"9-10"}],"82/tcp":[{"HostIp":"","HostPort":"0"}]}"#,
        ] {
            let bindings = read(json);
            assert_eq!(serde_json::to_string(&bindings).unwrap(), json);
            let again: PortBindings = read(&stored(&bindings));
            assert_eq!(again.unfolded(), bindings, "{json}");
        }
        assert!(serde_json::from_str::<PortBindings>(r#"{"80/tcp":[{"HostPort":1}]}"#).is_err());
    }

    #[test]
    fn a_range_is_kept_as_one_whatever_its_length() {
        let all = range(1..=u16::MAX, |n| n.to_string());
        assert_eq!(all.runs().len(), 1);
        assert_eq!(all.to_map().len(), 65_535);
        assert_eq!(stored(&all), r#"{"1..65535/tcp":[{"HostIp":"","HostPort":"1.."}]}"#);
        let any = range(8000..=8999, |_| String::new());
        assert_eq!(stored(&any), r#"{"8000..8999/tcp":[{"HostIp":"","HostPort":""}]}"#);
    }

    #[test]
    fn what_does_not_go_on_stays_apart() {
        let two = range(80..=89, |n| if n < 85 { n + 8000 } else { n + 9000 }.to_string());
        assert_eq!(two.runs().len(), 2);
        // The same host port for both is not one port after the other.
        assert_eq!(range(80..=81, |_| "8080".into()).runs().len(), 2);
        assert_eq!(read(r#"{"80/tcp":null,"81/udp":null}"#).runs().len(), 2);
        assert_eq!(read(r#"{"80/tcp":null,"81/tcp":[]}"#).runs().len(), 2);
    }

    #[test]
    fn a_range_that_no_port_could_be_stays_a_key() {
        for key in ["9..8/tcp", "0..8/tcp", "1..70000/tcp", "1../tcp", "1..2", "1..2/x"] {
            let bindings = read(&format!(r#"{{"{key}":null}}"#)).unfolded();
            assert!(bindings.runs().is_empty() && bindings.other().contains_key(key), "{key}");
        }
        let beyond = read(r#"{"1..9/tcp":[{"HostIp":"","HostPort":"65530.."}]}"#);
        assert_eq!(beyond.clone().unfolded(), beyond);
    }

    #[test]
    fn of_a_port_that_is_there_twice_the_last_counts() {
        let twice = r#"{"80/tcp":null,"81/tcp":null,"82/tcp":null,"81/tcp":[],"80":null,"80":[]}"#;
        let once = r#"{"80":[],"80/tcp":null,"81/tcp":[],"82/tcp":null}"#;
        assert_eq!(serde_json::to_string(&read(twice)).unwrap(), once);
    }
}
