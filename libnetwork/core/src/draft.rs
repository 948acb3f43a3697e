//! A command judged against an intent: what to commit, and what to commit instead if the world refuses it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use libnetwork_ipam::{Busy, Pool};
use libnetwork_model::{
    Change, EndpointId, HostFacts, Intent, Network, NetworkId, PortRange, Protocol, Sandbox, SandboxId,
};

use crate::{Defaults, Drivers, Error, Event, hints::Hints, request::Command};

/// Something that a report can be about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    /// What all networks share.
    Shared,
    Network(NetworkId),
    /// A part of a network beyond the first.
    Segment(NetworkId, u16),
    Sandbox(SandboxId),
    Endpoint(EndpointId),
}

#[derive(Debug)]
pub(crate) struct Draft {
    /// Empty: there is nothing to do.
    pub(crate) change: Change,
    /// Commits the intent without the thing. None for commands that take away: there is no way back.
    pub(crate) undo: Option<Change>,
    /// Whose failures are this command's.
    pub(crate) subjects: BTreeSet<Subject>,
    /// What no other command may touch until this one is done.
    pub(crate) holds: Vec<Subject>,
    pub(crate) events: Vec<Event>,
    /// What the command is about: the answer is read from there.
    pub(crate) about: Subject,
    /// The thing in words, for messages: `network web`.
    pub(crate) object: String,
}

/// What keeps a range of host ports from being bound, if anything.
pub type BusyPorts = Box<dyn FnMut(Protocol, Option<std::net::IpAddr>, PortRange) -> Option<Busy> + Send>;

/// Sandboxes as they are put back if what is in hand of them is refused: their ports are not free yet.
pub(crate) type Returning = BTreeMap<SandboxId, Arc<Sandbox>>;

/// What a judgement may look at and draw from.
pub(crate) struct Desk<'a> {
    pub(crate) intent: &'a Intent,
    pub(crate) host: &'a HostFacts,
    pub(crate) drivers: &'a Drivers,
    pub(crate) pools: &'a [Pool],
    pub(crate) defaults: &'a Defaults,
    pub(crate) hints: &'a mut Hints,
    pub(crate) random: &'a mut (dyn FnMut() -> [u8; 32] + Send),
    pub(crate) busy: &'a mut BusyPorts,
    pub(crate) returning: &'a Returning,
}

impl Desk<'_> {
    pub(crate) fn judge(&mut self, command: &Command) -> Result<Draft, Error> {
        match command {
            Command::CreateNetwork(request) => self.create_network(request),
            Command::RemoveNetwork { reference } => self.remove_network(reference),
            Command::Join(request) => self.join(request),
            Command::Leave { sandbox, keep } => Ok(self.leave(sandbox, *keep)),
            Command::Reserve(request) => Ok(self.reserve(request)),
            Command::SetNetwork { reference, settings } => self.set_network(reference, settings),
            Command::Connect { sandbox, endpoint } => self.connect(sandbox, endpoint),
            Command::Disconnect { sandbox, network } => self.disconnect(sandbox, network),
            Command::Rename { sandbox, name } => self.rename(sandbox, name),
            Command::SetPorts { sandbox, ports } => self.set_ports(sandbox, ports),
            Command::SetOpenings { sandbox, network, openings } => {
                self.set_openings(sandbox, network, openings)
            }
        }
    }
}

/// What a command wants for itself or must find settled, as far as it can be told before judging it.
pub(crate) fn touches(intent: &Intent, command: &Command) -> Vec<Subject> {
    let network = |reference: &str| resolve(intent, reference).ok().map(|n| Subject::Network(n.id.clone()));
    match command {
        Command::CreateNetwork(_) => Vec::new(),
        Command::RemoveNetwork { reference } => network(reference).into_iter().collect(),
        // What it may settle anew: an undo of either would put back the other's.
        Command::SetNetwork { reference, .. } => {
            // Also of those that publish nothing now: a change that is being made may be undone.
            let on = resolve(intent, reference).ok().map(|n| intent.endpoints_on(&n.id));
            let sandboxes: BTreeSet<Subject> =
                on.into_iter().flatten().map(|e| Subject::Sandbox(e.sandbox.clone())).collect();
            network(reference).into_iter().chain(sandboxes).collect()
        }
        Command::Join(join) => std::iter::once(Subject::Sandbox(join.id.clone()))
            .chain(join.endpoints.iter().filter_map(|e| network(&e.network)))
            .collect(),
        Command::Leave { sandbox, .. } | Command::Rename { sandbox, .. } => {
            vec![Subject::Sandbox(sandbox.clone())]
        }
        Command::SetPorts { sandbox, .. } => std::iter::once(Subject::Sandbox(sandbox.clone()))
            .chain(intent.endpoints_in(sandbox).map(|e| Subject::Network(e.network.clone())))
            .collect(),
        Command::Reserve(request) => vec![Subject::Sandbox(request.sandbox.clone())],
        Command::Connect { sandbox, endpoint } => {
            std::iter::once(Subject::Sandbox(sandbox.clone())).chain(network(&endpoint.network)).collect()
        }
        Command::Disconnect { sandbox, .. } | Command::SetOpenings { sandbox, .. } => {
            vec![Subject::Sandbox(sandbox.clone())]
        }
    }
}

/// The sandboxes on a network whose published ports follow its settings.
pub(crate) fn publishing_on<'a>(
    intent: &'a Intent,
    network: &NetworkId,
) -> impl Iterator<Item = &'a Arc<Sandbox>> {
    let on = intent.endpoints_on(network).filter_map(|e| intent.sandbox(&e.sandbox));
    on.filter(|sandbox| !sandbox.wishes.is_empty())
}

/// A network by full id, name, or unambiguous id prefix, in this order.
pub fn resolve<'a>(intent: &'a Intent, reference: &str) -> Result<&'a Arc<Network>, Error> {
    let by_id = reference.parse().ok().and_then(|id| intent.network(&id));
    if let Some(network) = by_id.or_else(|| intent.network_by_name(reference)) {
        return Ok(network);
    }
    let not_found = || Error::NetworkNotFound { reference: reference.to_owned() };
    if reference.is_empty() {
        return Err(not_found());
    }
    let mut matches = intent.networks_by_prefix(reference);
    match (matches.next(), matches.count()) {
        (Some(network), 0) => Ok(network),
        (Some(_), more) => Err(Error::NetworkAmbiguous { reference: reference.to_owned(), count: more + 1 }),
        (None, _) => Err(not_found()),
    }
}
