//! Carrying operations out: neighbours of one kind go to the kernel together, in as few messages as it takes.

use std::collections::{HashMap, HashSet};

use libnetwork_plan::{Cause, KernelError, Key, LinkRank, Name, Ns, Object, Operation, Thing, Value};

use crate::{
    before::Before,
    flows::{self, Turned},
    inet, link,
    netlink::Request,
    nft::Transaction,
    reaper::Reaper,
    spaces::Spaces,
    sysctl,
};

/// One result per operation, in order.
pub(crate) fn apply(
    spaces: &mut Spaces,
    reaper: &Reaper,
    before: &Before,
    operations: &[Operation],
) -> Vec<Result<(), KernelError>> {
    let mut work = Work {
        spaces,
        before,
        operations,
        causes: vec![None; operations.len()],
        failed: HashMap::new(),
        leaving: operations.iter().filter_map(leaving).collect(),
        reap: false,
        indexes: HashMap::new(),
    };
    let mut at = 0;
    while at < operations.len() {
        let step = step(&operations[at]);
        let length = operations[at..].iter().take_while(|operation| self::step(operation) == step).count();
        let ready: Vec<usize> = (at..at + length).filter(|place| work.may_try(*place)).collect();
        work.carry_out(step, &ready);
        at += length;
    }
    // Not before: while links are removed, nothing else can be done to any.
    if work.reap {
        reaper.wake();
    }
    let results = work.causes.into_iter().zip(operations);
    results.map(|(cause, operation)| cause.map_or(Ok(()), |cause| Err(error(operation, cause)))).collect()
}

fn error(operation: &Operation, cause: Cause) -> KernelError {
    let key = operation.key().clone();
    KernelError { operation: operation.verb(), namespace: key.ns().clone(), key: Some(key), cause }
}

fn leaving(operation: &Operation) -> Option<Ns> {
    match operation {
        Operation::Delete { key: Key::Namespace(id), .. } => Some(Ns::Sandbox(id.clone())),
        _ => None,
    }
}

/// What goes to the kernel together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    MakeNamespaces,
    RemoveNamespaces,
    Settings,
    Tables,
    MakeLinks(LinkRank),
    RemoveLinks,
    Inet,
}

fn step(operation: &Operation) -> Step {
    let removes = matches!(operation, Operation::Delete { .. });
    match operation.key() {
        Key::Namespace(_) if removes => Step::RemoveNamespaces,
        Key::Namespace(_) => Step::MakeNamespaces,
        Key::Sysctl { .. } | Key::LinkSysctl { .. } => Step::Settings,
        Key::Ruleset { .. } | Key::SetElement { .. } => Step::Tables,
        Key::Link { .. } if removes => Step::RemoveLinks,
        Key::Link { rank, .. } => Step::MakeLinks(*rank),
        Key::Address { .. } | Key::Route { .. } | Key::Neighbour { .. } | Key::Fdb { .. } => Step::Inet,
    }
}

pub(crate) struct Work<'a> {
    pub(crate) spaces: &'a mut Spaces,
    before: &'a Before,
    pub(crate) operations: &'a [Operation],
    causes: Vec<Option<Cause>>,
    /// What is not there, because making it failed.
    failed: HashMap<Thing, Key>,
    /// Sandboxes that are removed by these operations.
    pub(crate) leaving: HashSet<Ns>,
    /// Links were marked for removal.
    pub(crate) reap: bool,
    /// Of links, by name.
    indexes: HashMap<(Ns, Name), i32>,
}

impl Work<'_> {
    /// False, with the reason, when something that it needs could not be made.
    fn may_try(&mut self, place: usize) -> bool {
        let (Operation::Create { key, object } | Operation::Update { key, object, .. }) =
            &self.operations[place]
        else {
            return true;
        };
        if self.failed.is_empty() {
            return true;
        }
        let missing = object.requires(key).into_iter().find_map(|thing| self.failed.get(&thing)).cloned();
        match missing {
            Some(key) => {
                self.fail(place, Cause::Prerequisite(Box::new(key)));
                false
            }
            None => true,
        }
    }

    pub(crate) fn fail(&mut self, place: usize, cause: Cause) {
        let operation = &self.operations[place];
        if let Operation::Create { key, object } = operation {
            self.failed.extend(object.provides(key).into_iter().map(|thing| (thing, key.clone())));
        }
        self.causes[place].get_or_insert(cause);
    }

    pub(crate) fn record(&mut self, place: usize, result: Result<(), Cause>) {
        if let Err(cause) = result {
            self.fail(place, cause);
        }
    }

    pub(crate) fn has_failed(&self, place: usize) -> bool {
        self.causes[place].is_some()
    }

    fn carry_out(&mut self, step: Step, places: &[usize]) {
        match step {
            Step::MakeNamespaces => places.iter().for_each(|place| self.make_namespace(*place)),
            Step::RemoveNamespaces => places.iter().for_each(|place| self.remove_namespace(*place)),
            Step::Settings => self.settings(places),
            Step::Tables => self.tables(places),
            Step::MakeLinks(_) => self.make_links(places),
            Step::RemoveLinks => self.remove_links(places),
            Step::Inet => self.inet(places),
        }
    }

    fn make_namespace(&mut self, place: usize) {
        let Key::Namespace(id) = self.operations[place].key() else { return };
        let result = match &self.operations[place] {
            Operation::Create { .. } => self.spaces.create(id),
            // Nothing about a namespace changes but its loopback.
            _ => self.one(&Ns::Sandbox(id.clone()), link::loopback_up()),
        };
        self.record(place, result);
    }

    fn remove_namespace(&mut self, place: usize) {
        if let Key::Namespace(id) = self.operations[place].key() {
            let result = self.spaces.remove(id);
            self.record(place, result);
        }
    }

    fn settings(&mut self, places: &[usize]) {
        let mut by_ns: HashMap<&Ns, Vec<(usize, &Name, &Name)>> = HashMap::new();
        for place in places {
            let (Operation::Create { key, object: Object::Sysctl(value) }
            | Operation::Update { key, object: Object::Sysctl(value), .. }) = &self.operations[*place]
            else {
                continue;
            };
            // Others go with their link or their namespace.
            if let Key::Sysctl { ns: Ns::Host, name } = key
                && let Err(cause) = self.before.note(name, value)
            {
                self.fail(*place, cause);
                continue;
            }
            if let Key::Sysctl { ns, name } | Key::LinkSysctl { ns, name, .. } = key {
                by_ns.entry(ns).or_default().push((*place, name, value));
            }
        }
        for (ns, settings) in by_ns {
            let wanted: Vec<(Name, Name)> =
                settings.iter().map(|(_, name, value)| (Name::clone(name), Name::clone(value))).collect();
            let write =
                move || wanted.iter().map(|(name, value)| sysctl::write_and_read(name, value)).collect();
            let results: Vec<_> = match sysctl::at(self.spaces, ns, write) {
                Ok(results) => results,
                Err(cause) => vec![Err(cause); settings.len()],
            };
            for ((place, name, value), result) in settings.iter().zip(results) {
                // Those of the host are ours alone, and in the kernel's own words.
                if let (Ns::Sandbox(id), Ok(reading)) = (ns, &result) {
                    self.spaces.note_reading(id, name, value, reading.clone());
                }
                self.record(*place, result.map(drop));
            }
        }
    }

    /// One transaction per namespace. When the kernel refuses a change it refuses the transaction: the change is taken
    /// out and the others are tried again.
    fn tables(&mut self, places: &[usize]) {
        let mut by_ns: HashMap<&Ns, Vec<usize>> = HashMap::new();
        for place in places {
            by_ns.entry(self.operations[*place].key().ns()).or_default().push(*place);
        }
        for (ns, mut places) in by_ns {
            while !places.is_empty() {
                let mut transaction = Transaction::default();
                for place in &places {
                    transaction.change(*place);
                    table_change(&mut transaction, &self.operations[*place]);
                }
                let done = match self.spaces.nft(ns) {
                    Ok(socket) => transaction.commit(socket),
                    Err(cause) => Err(places.iter().map(|place| (*place, cause.clone())).collect()),
                };
                let Err(errors) = done else { break };
                for (place, cause) in errors {
                    places.retain(|p| *p != place);
                    let gone = cause.errno() == Some(libc::ENOENT);
                    if !(gone && matches!(self.operations[place], Operation::Delete { .. })) {
                        self.fail(place, cause);
                    }
                }
                places.retain(|place| self.may_try(*place));
            }
            self.forget_flows(ns, &places);
            self.spaces.tidy(ns);
        }
    }

    /// Who came by a port that is not published any more is not to be led to whoever has the address next; and who came in
    /// vain is to be led on when it is.
    fn forget_flows(&mut self, ns: &Ns, places: &[usize]) {
        let turned = places.iter().filter_map(|place| Turned::by(&self.operations[*place]));
        let turned: Vec<Turned> = turned.collect();
        if turned.is_empty() {
            return;
        }
        let mut host = HashSet::new();
        let done = (|| {
            if turned.iter().any(Turned::begins) {
                let found = inet::list_addresses(&mut self.spaces.get(ns)?.route)?;
                host.extend(found.iter().map(|found| found.address.addr()));
            }
            flows::forget(self.spaces.nft(ns)?, &turned, &host)
        })();
        if let Err(cause) = done {
            // They end by their own timeouts.
            tracing::warn!(%cause, "cannot end the connections by ports that were published");
        }
    }

    /// Everything of a namespace in one go: the kernel takes the messages in order.
    fn inet(&mut self, places: &[usize]) {
        let mut by_ns: HashMap<&Ns, (Vec<usize>, Vec<Request>)> = HashMap::new();
        for place in places {
            let ns = self.operations[*place].key().ns();
            match self.inet_request(&self.operations[*place]) {
                Ok(Some(request)) => {
                    let (places, requests) = by_ns.entry(ns).or_default();
                    places.push(*place);
                    requests.push(request);
                }
                Ok(None) => {}
                Err(cause) => self.fail(*place, cause),
            }
        }
        for (ns, (places, mut requests)) in by_ns {
            self.send(ns, &places, &mut requests);
        }
    }

    /// None when there is nothing left to remove.
    fn inet_request(&mut self, operation: &Operation) -> Result<Option<Request>, Cause> {
        let (key, removes) = (operation.key(), matches!(operation, Operation::Delete { .. }));
        let (Operation::Create { object, .. }
        | Operation::Update { object, .. }
        | Operation::Delete { object, .. }) = operation;
        let link = match (key, object) {
            (Key::Address { link, .. } | Key::Neighbour { link, .. } | Key::Fdb { link, .. }, _) => link,
            (Key::Route { .. }, Object::Route(route)) => &route.link,
            _ => return Ok(None),
        };
        let index = match self.index(key.ns(), link) {
            Ok(Some(index)) => index,
            // Gone with its link, or with its namespace.
            Ok(None) if removes => return Ok(None),
            Err(cause) if removes => return gone_is_gone(cause).map(|()| None),
            Ok(None) => return Err(Cause::Errno(libc::ENODEV)),
            Err(cause) => return Err(cause),
        };
        Ok(Some(match (key, object) {
            (Key::Address { address, .. }, _) if removes => inet::delete_address(index, *address),
            (Key::Address { address, .. }, _) => inet::create_address(index, *address),
            (Key::Route { destination, metric, .. }, _) if removes => {
                inet::delete_route(*destination, *metric)
            }
            (Key::Route { destination, metric, .. }, Object::Route(route)) => {
                let replace = matches!(operation, Operation::Update { .. });
                inet::create_route(index, *destination, *metric, route, replace)
            }
            (Key::Neighbour { address, .. }, _) if removes => inet::delete_neighbour(index, *address),
            (Key::Neighbour { address, .. }, Object::Neighbour(neighbour)) => {
                inet::put_neighbour(index, *address, neighbour.mac)
            }
            (Key::Fdb { mac, .. }, _) if removes => inet::delete_forwarding(index, *mac),
            (Key::Fdb { mac, .. }, _) => inet::put_forwarding(index, *mac),
            _ => return Ok(None),
        }))
    }

    /// Sends requests, one per operation. What is gone already has been removed.
    pub(crate) fn send(&mut self, ns: &Ns, places: &[usize], requests: &mut [Request]) {
        for (place, result) in places.iter().zip(self.request(ns, requests)) {
            let removes = matches!(self.operations[*place], Operation::Delete { .. });
            let result = if removes { result.or_else(gone_is_gone) } else { result };
            self.record(*place, result);
        }
    }

    pub(crate) fn request(&mut self, ns: &Ns, requests: &mut [Request]) -> Vec<Result<(), Cause>> {
        match self.spaces.get(ns) {
            Ok(space) => space.route.request(requests),
            Err(cause) => vec![Err(cause); requests.len()],
        }
    }

    pub(crate) fn one(&mut self, ns: &Ns, request: Request) -> Result<(), Cause> {
        self.request(ns, &mut [request]).pop().unwrap_or(Ok(()))
    }

    pub(crate) fn index(&mut self, ns: &Ns, name: &Name) -> Result<Option<i32>, Cause> {
        let key = (ns.clone(), name.clone());
        if let Some(index) = self.indexes.get(&key) {
            return Ok(Some(*index));
        }
        let found = link::by_name(&mut self.spaces.get(ns)?.route, name)?;
        let index = found.map(|link| link.index);
        self.indexes.extend(index.map(|index| (key, index)));
        Ok(index)
    }

    pub(crate) fn forget_indexes(&mut self) {
        self.indexes.clear();
    }
}

fn table_change(transaction: &mut Transaction, operation: &Operation) {
    fn value(object: &Object) -> Option<&Value> {
        match object {
            Object::SetElement(value) => value.as_ref(),
            _ => None,
        }
    }
    match (operation, operation.key()) {
        (Operation::Delete { .. }, Key::Ruleset { table, .. }) => transaction.delete_ruleset(table),
        (Operation::Delete { .. }, Key::SetElement { table, set, element, .. }) => {
            transaction.delete_element(table, set, element);
        }
        (Operation::Create { object: Object::Ruleset(ruleset), .. }, _) => {
            transaction.create_ruleset(ruleset)
        }
        (Operation::Update { object: Object::Ruleset(ruleset), .. }, _) => {
            transaction.replace_ruleset(ruleset)
        }
        (
            Operation::Create { object, .. } | Operation::Update { object, .. },
            Key::SetElement { table, set, element, .. },
        ) => transaction.put_element(table, set, element, value(object)),
        _ => {}
    }
}

pub(crate) fn gone_is_gone(cause: Cause) -> Result<(), Cause> {
    // ESRCH for routes, EADDRNOTAVAIL for addresses.
    match cause.errno() {
        Some(libc::ENOENT | libc::ENODEV | libc::ESRCH | libc::EADDRNOTAVAIL) => Ok(()),
        _ => Err(cause),
    }
}
