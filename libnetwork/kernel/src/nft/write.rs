use std::net::IpAddr;

use libnetwork_model::PortRange;
use libnetwork_plan::{
    Base, Cause, Chain, ChainKind, Datum, Element, Hook, Name, Rule, Ruleset, Set, SetType, Table, Value,
    Verdict,
};

use nftnl_sys as sys;

use super::{constants::*, expression, library};
use crate::netlink::{Request, Socket};

/// Changes that are made together or not at all.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    requests: Vec<Request>,
    /// Which change of the caller's each request belongs to.
    owners: Vec<usize>,
    owner: usize,
    sets: u32,
}

/// NFTNL_UDATA_RULE_COMMENT and NFTNL_UDATA_SET_KEYBYTEORDER: the notes that nft itself keeps.
const COMMENT: u8 = 0;
const KEY_BYTE_ORDER: u8 = 0;
const HOST_ENDIAN: u32 = 1;
const BIG_ENDIAN: u32 = 2;

impl Transaction {
    /// What follows belongs to the caller's n-th change.
    pub(crate) fn change(&mut self, number: usize) {
        self.owner = number;
    }

    /// Makes a table that is not there.
    pub(crate) fn create_ruleset(&mut self, ruleset: &Ruleset) {
        self.table(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &ruleset.table);
        self.fill(ruleset);
    }

    /// Makes a table that is there into this one; its sets are empty after.
    pub(crate) fn replace_ruleset(&mut self, ruleset: &Ruleset) {
        let table = &ruleset.table;
        // Removing one that is gone by now is an error: it is made first.
        self.table(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, table);
        self.table(libc::NFT_MSG_DELTABLE, 0, table);
        self.create_ruleset(ruleset);
    }

    fn fill(&mut self, ruleset: &Ruleset) {
        let table = &ruleset.table;
        for set in &ruleset.sets {
            self.set(table, set);
        }
        for chain in &ruleset.chains {
            self.chain(table, chain);
        }
        for chain in &ruleset.chains {
            for rule in &chain.rules {
                self.rule(table, chain, rule);
            }
        }
    }

    pub(crate) fn delete_ruleset(&mut self, table: &Table) {
        self.table(libc::NFT_MSG_DELTABLE, 0, table);
    }

    pub(crate) fn put_element(
        &mut self,
        table: &Table,
        set: &Name,
        element: &Element,
        value: Option<&Value>,
    ) {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.push(element_request(libc::NFT_MSG_NEWSETELEM, flags, table, set, element, value));
    }

    pub(crate) fn delete_element(&mut self, table: &Table, set: &Name, element: &Element) {
        self.push(element_request(libc::NFT_MSG_DELSETELEM, 0, table, set, element, None));
    }

    /// Sends it. The errors are by the caller's changes, of many perhaps not all; when there are any, nothing was done.
    pub(crate) fn commit(mut self, socket: &mut Socket) -> Result<(), Vec<(usize, Cause)>> {
        if self.requests.is_empty() {
            return Ok(());
        }
        let [begin, end] = library::batch();
        self.requests.insert(0, begin);
        self.requests.push(end);
        socket.transaction(&mut self.requests).map_err(|errors| {
            let owner = |place: usize| self.owners.get(place.saturating_sub(1)).copied();
            let last = self.owners.last().copied().unwrap_or(0);
            errors.into_iter().map(|(place, cause)| (owner(place).unwrap_or(last), cause)).collect()
        })
    }

    fn push(&mut self, request: Request) {
        self.requests.push(request);
        self.owners.push(self.owner);
    }

    fn table(&mut self, message: i32, flags: i32, table: &Table) {
        self.push(table_request(message, flags, table));
    }

    fn set(&mut self, table: &Table, set: &Set) {
        self.sets += 1;
        let concatenated = set.key.len() > 1;
        let flags = [
            (set.data.is_some(), SET_FLAG_MAP),
            (concatenated, SET_FLAG_CONCAT),
            (set.ranges, SET_FLAG_INTERVAL),
        ]
        .into_iter()
        .filter(|(on, _)| *on)
        .fold(0, |flags, (_, flag)| flags | flag);
        let kind = set.key.iter().fold(0, |kind, t| kind << TYPE_BITS | type_number(*t));
        let length: usize = set.key.iter().map(|t| type_length(*t).next_multiple_of(4)).sum();
        let length = if concatenated { length } else { set.key.first().map_or(0, |t| type_length(*t)) };
        let mut object = library::Set::new();
        object.text(sys::NFTNL_SET_TABLE, &table.name).text(sys::NFTNL_SET_NAME, &set.name);
        object.number(sys::NFTNL_SET_FLAGS, flags).number(sys::NFTNL_SET_KEY_TYPE, kind);
        object.number(sys::NFTNL_SET_KEY_LEN, length as u32).number(sys::NFTNL_SET_ID, self.sets);
        if let Some((kind, length)) = set.data.map(data_type) {
            object.number(sys::NFTNL_SET_DATA_TYPE, kind).number(sys::NFTNL_SET_DATA_LEN, length as u32);
        }
        if concatenated {
            let fields: Vec<u8> = set.key.iter().map(|t| type_length(*t) as u8).collect();
            object.bytes(sys::NFTNL_SET_DESC_CONCAT, &fields);
        }
        let order = if set.key.first() == Some(&SetType::Ifname) { HOST_ENDIAN } else { BIG_ENDIAN };
        object.bytes(sys::NFTNL_SET_USERDATA, &note(KEY_BYTE_ORDER, &order.to_ne_bytes()));
        self.push(object.request(libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE, family_number(table.family)));
    }

    fn chain(&mut self, table: &Table, chain: &Chain) {
        let mut object = library::Chain::new();
        object.text(sys::NFTNL_CHAIN_TABLE, &table.name).text(sys::NFTNL_CHAIN_NAME, &chain.name);
        if let Some(Base { kind, hook, priority }) = chain.base {
            object.number(sys::NFTNL_CHAIN_HOOKNUM, hook_number(hook));
            // A signed number, of the same length.
            object.number(sys::NFTNL_CHAIN_PRIO, priority as u32);
            object.number(sys::NFTNL_CHAIN_POLICY, verdict_code(&Verdict::Accept).0);
            object.text(sys::NFTNL_CHAIN_TYPE, kind_name(kind));
        }
        self.push(object.request(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, family_number(table.family)));
    }

    fn rule(&mut self, table: &Table, chain: &Chain, rule: &Rule) {
        let mut object = library::Rule::new();
        object.text(sys::NFTNL_RULE_TABLE, &table.name).text(sys::NFTNL_RULE_CHAIN, &chain.name);
        for expression in rule.expressions() {
            expression::write(&mut object, table.family, expression);
        }
        let comment: Vec<u8> = rule.tag().bytes().chain([0]).collect();
        object.note(&note(COMMENT, &comment));
        let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        self.push(object.request(libc::NFT_MSG_NEWRULE, flags, family_number(table.family)));
    }
}

/// Removes a table, in whichever family; gone is gone.
pub(crate) fn delete_table(socket: &mut Socket, table: &Table) -> Result<(), Cause> {
    let mut transaction = Transaction::default();
    transaction.delete_ruleset(table);
    match transaction.commit(socket) {
        Ok(()) => Ok(()),
        Err(errors) => match errors.into_iter().next() {
            Some((_, cause)) if cause.errno() != Some(libc::ENOENT) => Err(cause),
            _ => Ok(()),
        },
    }
}

/// A request about one element; also the question whether it is there.
pub(super) fn element_request(
    message: i32,
    flags: i32,
    table: &Table,
    set: &Name,
    element: &Element,
    value: Option<&Value>,
) -> Request {
    let mut elements = library::Elements::new();
    elements.text(sys::NFTNL_SET_TABLE, &table.name).text(sys::NFTNL_SET_NAME, set);
    let ranges = element.iter().any(|datum| matches!(datum, Datum::Ports(_)));
    let (data, verdict) = match value {
        None => (None, None),
        Some(Value::Verdict(verdict)) => {
            let (code, chain) = verdict_code(verdict);
            (None, Some((code, chain.map(|chain| chain.to_string()))))
        }
        Some(Value::Mac(mac)) => (Some(mac.0.to_vec()), None),
        Some(Value::Address(address)) => (Some(address_bytes(*address)), None),
        Some(Value::AddressPort(to)) => {
            let [high, low] = to.port().to_be_bytes();
            (Some([address_bytes(to.ip()), vec![high, low, 0, 0]].concat()), None)
        }
    };
    elements.add(&library::SetElement {
        key: element_key(element, PortRange::first),
        end: ranges.then(|| element_key(element, PortRange::last)),
        data,
        verdict,
    });
    elements.request(message, flags, family_number(table.family))
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A request about a table as such.
pub(super) fn table_request(message: i32, flags: i32, table: &Table) -> Request {
    let mut object = library::Table::new();
    object.text(sys::NFTNL_TABLE_NAME, &table.name);
    object.request(message, flags, family_number(table.family))
}

/// The values as registers hold them, of a range the end that is asked for.
pub(super) fn element_key(element: &[Datum], end: fn(PortRange) -> u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(32);
    for datum in element {
        match datum {
            Datum::Ifname(name) => {
                let mut padded = [0; 16];
                let length = name.len().min(15);
                padded[..length].copy_from_slice(&name.as_bytes()[..length]);
                key.extend_from_slice(&padded);
            }
            Datum::V4(address) => key.extend_from_slice(&address.octets()),
            Datum::V6(address) => key.extend_from_slice(&address.octets()),
            Datum::Mac(mac) => key.extend_from_slice(&mac.0),
            Datum::Protocol(protocol) => key.push(protocol.number()),
            Datum::Ports(range) => key.extend_from_slice(&end(*range).to_be_bytes()),
        }
        if element.len() > 1 {
            key.resize(key.len().next_multiple_of(4), 0);
        }
    }
    key
}

/// Type, length, value, each of the first two in a byte.
fn note(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut note = vec![kind, value.len() as u8];
    note.extend_from_slice(value);
    note
}

/// linux/netfilter.h, NF_INET_*.
pub(super) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

pub(super) fn kind_name(kind: ChainKind) -> &'static str {
    match kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
    }
}
