//! Neighbouring ports that are published alike, and where.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};

use super::{
    host::PortBinding,
    port_set::{Ports, number_as_written},
    wire::Text,
};
use crate::ports::ContainerPort;

/// Neighbouring ports that are published alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) ports: Ports,
    /// None: `null`.
    pub(crate) places: Option<Box<[Place]>>,
}

/// One of the places where each port of a run is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host_ip: Box<str>,
    pub(crate) host_port: HostPort,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostPort {
    /// The first port on this one, the others on those that follow.
    From(u16),
    /// Every port on what this says.
    Each(Box<str>),
}

impl Place {
    pub(super) fn of(host_ip: &str, host_port: &str) -> Self {
        let host_port = match number_as_written(host_port) {
            Some(number) => HostPort::From(number),
            None => HostPort::Each(host_port.into()),
        };
        Self { host_ip: host_ip.into(), host_port }
    }

    /// Of a run's port so far from its first.
    pub(super) fn at(&self, offset: u16) -> PortBinding {
        let host_port = match &self.host_port {
            HostPort::From(first) => (first + offset).to_string(),
            HostPort::Each(text) => text.to_string(),
        };
        PortBinding { host_ip: self.host_ip.to_string(), host_port }
    }

    /// As it is kept on the disk, in an entry for several ports.
    pub(super) fn written(&self) -> PortBinding {
        let host_port = match &self.host_port {
            HostPort::From(first) => format!("{first}.."),
            HostPort::Each(text) => text.to_string(),
        };
        PortBinding { host_ip: self.host_ip.to_string(), host_port }
    }

    fn read(binding: &PortBinding) -> Self {
        match binding.host_port.strip_suffix("..").and_then(number_as_written) {
            Some(first) => {
                Self { host_ip: binding.host_ip.as_str().into(), host_port: HostPort::From(first) }
            }
            None => Self::of(&binding.host_ip, &binding.host_port),
        }
    }

    /// Whether this goes on in another, so far away.
    fn goes_on(&self, next: &Self, offset: u16) -> bool {
        same(&self.host_ip, &next.host_ip)
            && match (&self.host_port, &next.host_port) {
                (HostPort::From(first), HostPort::From(next)) => first.checked_add(offset) == Some(*next),
                (HostPort::Each(own), HostPort::Each(next)) => same(own, next),
                _ => false,
            }
    }
}

/// Comparing nothing with nothing is slow where it is done by masked loads, which the C library's are: what they mask lies
/// at an address that is none.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && (one.is_empty() || one == other)
}

impl Run {
    pub(crate) fn of(port: ContainerPort, bindings: Option<&[PortBinding]>) -> Self {
        let place = |binding: &PortBinding| Place::of(&binding.host_ip, &binding.host_port);
        Self {
            ports: Ports::one(port),
            places: bindings.map(|bindings| bindings.iter().map(place).collect()),
        }
    }

    /// Whether there is a place where it is published.
    pub(crate) fn is_published(&self) -> bool {
        self.places.iter().flatten().next().is_some()
    }

    /// What is published of some ports, if any.
    pub(crate) fn part(&self, of: Ports) -> Option<Self> {
        let ports = self.ports.and(of)?;
        let offset = ports.first - self.ports.first;
        let place = |place: &Place| match place.host_port {
            HostPort::From(first) => Place { host_port: HostPort::From(first + offset), ..place.clone() },
            HostPort::Each(_) => place.clone(),
        };
        Some(Self { ports, places: self.places.as_ref().map(|places| places.iter().map(place).collect()) })
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (ContainerPort, Option<Vec<PortBinding>>)> {
        self.ports.each().zip(0..).map(|(port, offset)| {
            (port, self.places.as_ref().map(|places| places.iter().map(|place| place.at(offset)).collect()))
        })
    }

    pub(super) fn written(&self) -> (String, Option<Vec<PortBinding>>) {
        let places = self.places.as_ref();
        (self.ports.written(), places.map(|places| places.iter().map(Place::written).collect()))
    }

    pub(super) fn read(key: &str, bindings: &Option<Vec<PortBinding>>) -> Option<Self> {
        let ports = Ports::read(key)?;
        let places: Option<Box<[Place]>> =
            bindings.as_ref().map(|bindings| bindings.iter().map(Place::read).collect());
        let fits = |place: &Place| match place.host_port {
            HostPort::From(first) => first.checked_add(ports.last - ports.first).is_some(),
            HostPort::Each(_) => true,
        };
        places.iter().flatten().all(fits).then_some(Self { ports, places })
    }

    /// Becomes one with the run that begins where this one ends, if they say the same.
    pub(super) fn takes(&mut self, next: &Self) -> bool {
        let offset = next.ports.first.wrapping_sub(self.ports.first);
        let goes_on = self.ports.protocol == next.ports.protocol
            && self.ports.last.checked_add(1) == Some(next.ports.first)
            && match (&self.places, &next.places) {
                (Some(own), Some(next)) => {
                    own.len() == next.len()
                        && own.iter().zip(next).all(|(own, next)| own.goes_on(next, offset))
                }
                (own, next) => own == next,
            };
        if goes_on {
            self.ports.last = next.ports.last;
        }
        goes_on
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Binding<'a> {
            #[serde(borrow)]
            host_ip: Text<'a>,
            #[serde(borrow)]
            host_port: Text<'a>,
        }
        let Binding { host_ip, host_port } = Binding::deserialize(deserializer)?;
        Ok(Self::of(&host_ip.0, &host_port.0))
    }
}

/// Most ports have one place, and are compared and dropped: what is read takes no more room than that.
pub(super) struct Places(pub(super) Box<[Place]>);

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Places;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Places, A::Error> {
                let mut places = Vec::with_capacity(1);
                while let Some(place) = list.next_element()? {
                    places.push(place);
                }
                Ok(Places(places.into()))
            }
        }
        deserializer.deserialize_seq(List)
    }
}
