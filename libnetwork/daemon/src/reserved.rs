//! Keeps the kernel from giving published ports to sockets that ask for any: such a socket would then share its port with
//! a container, which gets what comes from outside. By `net.ipv4.ip_local_reserved_ports` (networking/ip-sysctl), which
//! is of both families and all transports, and stops nobody who asks for a port by its number.
//!
//! The setting is the host's, and may have ports of others. Ours among them are recorded in the run directory: of a boot,
//! like the setting.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use libnetwork_core::Publication;
use libnetwork_ipam::EPHEMERAL;
use libnetwork_kernel::ephemeral_ports;
use libnetwork_model::{PortRange, SandboxId};

const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// In the namespace of the calling thread.
pub(crate) struct Reserved {
    record: PathBuf,
    /// What each sandbox publishes of the ports that the kernel chooses from.
    wanted: BTreeMap<SandboxId, Vec<PortRange>>,
    complained: bool,
}

impl Reserved {
    pub(crate) fn new(record: PathBuf) -> Self {
        Self { record, wanted: BTreeMap::new(), complained: false }
    }

    /// A failure is told once: the ports are published all the same.
    pub(crate) fn set(&mut self, sandbox: &SandboxId, publication: &Publication) {
        let chosen = chosen();
        let ports = publication.mappings.iter().map(|mapping| mapping.port.host_ports);
        let mut ranges: Vec<PortRange> = ports.filter(|range| range.overlaps(chosen)).collect();
        ranges.sort();
        ranges.dedup();
        let had = match ranges.is_empty() {
            true => self.wanted.remove(sandbox),
            false => self.wanted.insert(sandbox.clone(), ranges.clone()),
        };
        if had.unwrap_or_default() == ranges {
            return;
        }
        if let Err(error) = self.write(chosen)
            && !std::mem::replace(&mut self.complained, true)
        {
            tracing::warn!(
                %error,
                "cannot reserve published ports in {RESERVED}: the kernel may give them to sockets that ask for any"
            );
        }
    }

    fn write(&self, chosen: PortRange) -> io::Result<()> {
        let recorded = match fs::read_to_string(&self.record) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ports::default(),
            other => Ports::parse(&other?),
        };
        let theirs = Ports::parse(&fs::read_to_string(RESERVED)?).without(&recorded);
        let ours = self.ours(chosen).without(&theirs);
        // A start after one that is cut off here takes no more for its own than was.
        fs::write(&self.record, recorded.with(&ours).to_string())?;
        fs::write(RESERVED, theirs.with(&ours).to_string())?;
        fs::write(&self.record, ours.to_string())
    }

    /// The narrowest first, as long as half of the ports are left for the kernel to choose from. The others are not lost:
    /// what the host itself has open comes before what is published.
    fn ours(&self, chosen: PortRange) -> Ports {
        let mut ranges: Vec<PortRange> = self.wanted.values().flatten().copied().collect();
        ranges.sort_by_key(|range| (range.count(), range.first()));
        ranges.dedup();
        let mut left = chosen.count() / 2;
        let mut ports = Ports::default();
        for range in ranges {
            let (first, last) = (range.first().max(chosen.first()), range.last().min(chosen.last()));
            left = match left.checked_sub(last - first + 1) {
                Some(left) => left,
                None => break,
            };
            ports.insert(first, last);
        }
        ports
    }
}

/// For a purge: takes ours out of the setting.
pub(crate) fn release(record: PathBuf) -> io::Result<()> {
    if !record.exists() {
        return Ok(());
    }
    Reserved::new(record.clone()).write(chosen())?;
    fs::remove_file(record)
}

fn chosen() -> PortRange {
    ephemeral_ports().unwrap_or(EPHEMERAL)
}

/// A set of ports, written as the kernel writes it: `1-3,7`, and nothing for none.
#[derive(Clone, PartialEq, Eq)]
struct Ports(Vec<u64>);

impl Default for Ports {
    fn default() -> Self {
        Self(vec![0; 1024])
    }
}

impl Ports {
    /// What is no port or range is left out.
    fn parse(text: &str) -> Self {
        let mut ports = Self::default();
        for range in text.trim().split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            if let (Ok(first), Ok(last)) = (first.parse(), last.parse()) {
                ports.insert(first, last);
            }
        }
        ports
    }

    fn insert(&mut self, first: u16, last: u16) {
        for port in first..=last {
            self.0[usize::from(port / 64)] |= 1 << (port % 64);
        }
    }

    fn contains(&self, port: u16) -> bool {
        self.0[usize::from(port / 64)] & 1 << (port % 64) != 0
    }

    fn with(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a | b).collect())
    }

    fn without(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & !b).collect())
    }
}

impl std::fmt::Display for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut comma = "";
        let mut next = Some(0);
        while let Some(first) = next.and_then(|from| (from..=u16::MAX).find(|port| self.contains(*port))) {
            let last = (first..=u16::MAX).take_while(|port| self.contains(*port)).last().unwrap_or(first);
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
            next = last.checked_add(1);
        }
        // The kernel takes an empty line for an empty set.
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_ports_is_written_as_the_kernel_reads_it() {
        for text in ["\n", "8080\n", "1-3,7,65534-65535\n", "0-65535\n"] {
            assert_eq!(Ports::parse(text).to_string(), text);
        }
        assert_eq!(Ports::parse("5,3-4,x,9-,70000\n").to_string(), "3-5\n");
        let (a, b) = (Ports::parse("1-10"), Ports::parse("4,10-12"));
        assert_eq!(a.without(&b).to_string(), "1-3,5-9\n");
        assert_eq!(a.with(&b).to_string(), "1-12\n");
    }

    #[test]
    fn half_of_the_ports_that_the_kernel_chooses_from_are_left_to_it() {
        let range = |first, last| PortRange::new(first, last).unwrap();
        let mut reserved = Reserved::new(PathBuf::new());
        let sandbox = |byte| SandboxId::from_bytes([byte; 32]);
        reserved.wanted.insert(sandbox(1), vec![range(1, 65535), range(40000, 40000)]);
        reserved.wanted.insert(sandbox(2), vec![range(30000, 32767), range(50000, 50999)]);
        assert_eq!(reserved.ours(range(32760, 60999)).to_string(), "32760-32767,40000,50000-50999\n");
    }
}
