//! Sets of ports, kept as ranges: `-p 8000-8999:8000-8999` comes from the CLI as a thousand keys, which as texts in a map
//! take a hundred times the memory.

use std::{collections::BTreeSet, fmt};

use libnetwork_model::Protocol;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

use super::wire::Empty;
use crate::ports::ContainerPort;

/// Neighbouring ports of one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ports {
    pub(crate) protocol: Protocol,
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl Ports {
    pub(crate) fn one(port: ContainerPort) -> Self {
        Self { protocol: port.protocol, first: port.number, last: port.number }
    }

    pub(crate) fn each(self) -> impl Iterator<Item = ContainerPort> {
        (self.first..=self.last).map(move |number| ContainerPort { number, protocol: self.protocol })
    }

    pub(crate) fn contains(self, port: ContainerPort) -> bool {
        self.protocol == port.protocol && (self.first..=self.last).contains(&port.number)
    }

    /// Those that are in both.
    pub(crate) fn and(self, other: Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (self.protocol == other.protocol && first <= last).then_some(Self { first, last, ..self })
    }

    pub(crate) fn count(self) -> u32 {
        u32::from(self.last - self.first) + 1
    }

    /// How a range is written on the disk: as no client can write a port, so that it is never taken for one.
    pub(super) fn written(self) -> String {
        format!("{}..{}/{}", self.first, self.last, self.protocol)
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        let (numbers, protocol) = text.split_once('/')?;
        let (first, last) = numbers.split_once("..")?;
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (0 < first && first <= last).then_some(Self { protocol: protocol.parse().ok()?, first, last })
    }
}

/// A key of an object whose keys are ports.
pub(super) enum Key {
    /// Written as it is written here, so that nothing of it has to be kept but the number.
    Port(ContainerPort),
    /// `80`, `8000-8010/tcp`, `80/TCP`, and what is no port at all.
    Other(String),
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        let exact = |text: &str| {
            let (number, protocol) = text.split_once('/')?;
            let protocol = match protocol {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                "sctp" => Protocol::Sctp,
                _ => return None,
            };
            Some(ContainerPort { number: number_as_written(number)?, protocol })
        };
        exact(text).map_or_else(|| Key::Other(text.to_owned()), Key::Port)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port")
            }

            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                Ok(text.into())
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A port from 1 on that is written the shortest way.
pub(super) fn number_as_written(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

/// A set of ports, written as an object with empty values (`{"80/tcp": {}}`), such as `ExposedPorts`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortSet {
    /// In order; none touches the next.
    ranges: Vec<Ports>,
    /// Keys that are kept as they were written.
    other: BTreeSet<String>,
}

impl PortSet {
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.other.is_empty()
    }

    /// Every key, as text.
    pub fn keys(&self) -> BTreeSet<String> {
        let ports = self.ranges.iter().flat_map(|range| range.each()).map(|port| port.to_string());
        ports.chain(self.other.iter().cloned()).collect()
    }

    pub(crate) fn contains(&self, port: ContainerPort) -> bool {
        let after = self
            .ranges
            .partition_point(|range| (range.protocol, range.first) <= (port.protocol, port.number));
        self.ranges[..after].last().is_some_and(|range| range.contains(port))
    }

    pub(crate) fn ranges(&self) -> &[Ports] {
        &self.ranges
    }

    /// The keys that are not the plain text of a port.
    pub(crate) fn other(&self) -> impl Iterator<Item = &str> {
        self.other.iter().map(String::as_str)
    }

    pub(crate) fn insert(&mut self, key: &str) {
        match key.into() {
            Key::Port(port) => self.extend([Ports::one(port)]),
            Key::Other(text) => _ = self.other.insert(text),
        }
    }

    /// As it is kept on the disk. Only [`PortSet::unfolded`] understands it.
    pub(crate) fn folded(mut self) -> Self {
        let many = self.ranges.extract_if(.., |range| range.count() > 1);
        self.other.extend(many.map(Ports::written));
        self
    }

    /// The set that was folded; also one that never was.
    pub(crate) fn unfolded(mut self) -> Self {
        let ranges: Vec<Ports> = self.other.iter().filter_map(|key| Ports::read(key)).collect();
        if !ranges.is_empty() {
            self.other.retain(|key| Ports::read(key).is_none());
            self.extend(ranges);
        }
        self
    }
}

impl Extend<Ports> for PortSet {
    fn extend<I: IntoIterator<Item = Ports>>(&mut self, ranges: I) {
        self.ranges.extend(ranges);
        self.ranges.sort_unstable();
        self.ranges.dedup_by(|next, range| {
            let touch = next.protocol == range.protocol && next.first <= range.last.saturating_add(1);
            if touch {
                range.last = range.last.max(next.last);
            }
            touch
        });
        self.ranges.shrink_to_fit();
    }
}

impl<'a> FromIterator<&'a str> for PortSet {
    fn from_iter<I: IntoIterator<Item = &'a str>>(keys: I) -> Self {
        Self::of(keys.into_iter().map(Key::from))
    }
}

impl PortSet {
    fn of(keys: impl Iterator<Item = Key>) -> Self {
        let mut set = Self::default();
        let mut ranges: Vec<Ports> = Vec::new();
        for key in keys {
            match key {
                Key::Other(text) => _ = set.other.insert(text),
                // Sorted as texts, most ports come right after the one before.
                Key::Port(port) => match ranges.last_mut() {
                    Some(range)
                        if range.protocol == port.protocol
                            && range.last.checked_add(1) == Some(port.number) =>
                    {
                        range.last = port.number;
                    }
                    _ => ranges.push(Ports::one(port)),
                },
            }
        }
        set.extend(ranges);
        set
    }
}

impl Serialize for PortSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.keys().into_iter().map(|key| (key, Empty {})))
    }
}

impl<'de> Deserialize<'de> for PortSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = PortSet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with ports for keys")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PortSet, A::Error> {
                let mut failed = None;
                let set = PortSet::of(std::iter::from_fn(|| {
                    let entry = map.next_entry::<Key, Empty>();
                    entry.map_err(|error| failed = Some(error)).ok().flatten().map(|(key, _)| key)
                }));
                failed.map_or(Ok(set), Err)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> PortSet {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn keys_come_back_as_they_were_written() {
        for json in [
            "{}",
            r#"{"80/tcp":{}}"#,
            r#"{"080/tcp":{},"80":{},"80/TCP":{},"80/tcp":{},"8000-8010/udp":{},"81/sctp":{},"x":{}}"#,
            r#"{"1/tcp":{},"10/tcp":{},"11/tcp":{},"2/tcp":{},"3/udp":{}}"#,
        ] {
            let set = read(json);
            assert_eq!(serde_json::to_string(&set).unwrap(), json);
            assert_eq!(set.clone().folded().unfolded(), set);
        }
        assert!(serde_json::from_str::<PortSet>("[]").is_err());
    }

    #[test]
    fn every_port_there_is_is_one_range() {
        let keys: BTreeSet<String> = (1..=u16::MAX).map(|n| format!("{n}/tcp")).collect();
        let mut set: PortSet = keys.iter().map(String::as_str).collect();
        assert_eq!(set.ranges(), [Ports { protocol: Protocol::Tcp, first: 1, last: u16::MAX }]);
        set.insert("80/tcp");
        assert_eq!(set.keys(), keys);
        let folded = set.clone().folded();
        assert_eq!(serde_json::to_string(&folded).unwrap(), r#"{"1..65535/tcp":{}}"#);
        assert_eq!(folded.unfolded(), set);
    }
}
