//! What is in our tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use libnetwork_model::{MacAddress, PortRange, Protocol};
use libnetwork_plan::{
    Base, Cause, Chain, ChainKind, Datum, Element, Hook, Name, Ns, Rule, Ruleset, Set, SetType, Table, Value,
};

use netlink_packet_core::parse_string;
use nftnl_sys as sys;

use super::{
    constants::*,
    library,
    write::{element_request, hook_number, kind_name, table_request},
};
use crate::{
    netlink::{Message, Socket, attributes},
    ownership::tables,
};

/// struct nfgenmsg.
const NFGENMSG: usize = 4;

/// Our tables in a namespace, with all but their elements.
pub(crate) fn rulesets(socket: &mut Socket, ns: &Ns) -> Result<Vec<Ruleset>, Cause> {
    tables(ns).filter_map(|table| ruleset(socket, &table).transpose()).collect()
}

/// One table with all but its elements; none when it is not there.
pub(crate) fn ruleset(socket: &mut Socket, table: &Table) -> Result<Option<Ruleset>, Cause> {
    let question = table_request(libc::NFT_MSG_GETTABLE, 0, table);
    if socket.get(question, |_| Some(()))?.is_none() {
        return Ok(None);
    }
    let mut chains = chains(socket, table)?;
    for (chain, rule) in rules(socket, table)? {
        // A rule that libnftnl does not understand names no chain; wherever it is, it makes the table differ.
        let named = chains.iter().position(|c| chain.as_deref() == Some(&*c.name));
        if let Some(chain) = chains.get_mut(named.unwrap_or(0)) {
            chain.rules.push(rule);
        }
    }
    Ok(Some(Ruleset { table: table.clone(), sets: sets(socket, table)?, chains }))
}

/// All elements of a table's set.
pub(crate) fn set_elements(
    socket: &mut Socket,
    table: &Table,
    set: &Set,
) -> Result<Vec<(Element, Option<Value>)>, Cause> {
    let mut question = library::Elements::new();
    question.text(sys::NFTNL_SET_TABLE, &table.name).text(sys::NFTNL_SET_NAME, &set.name);
    let question = question.request(libc::NFT_MSG_GETSETELEM, 0, family_number(table.family));
    let found = socket.dump(question, |message| Some(read_elements(message, &set.key)))?;
    Ok(found.into_iter().flatten().collect())
}

/// One element: what it leads to, if it is there.
pub(crate) fn element(
    socket: &mut Socket,
    table: &Table,
    set: &Name,
    element: &Element,
) -> Result<Option<Option<Value>>, Cause> {
    let request = element_request(libc::NFT_MSG_GETSETELEM, 0, table, set, element, None);
    let types: Vec<SetType> = element.iter().map(type_of_datum).collect();
    let found = socket.get(request, |message| read_elements(message, &types).into_iter().next())?;
    // Of ranges the kernel answers the one that the first key is in.
    Ok(found.filter(|(found, _)| found == element).map(|(_, value)| value))
}

/// The table of ours in this namespace that a notification says lost something, or got rules that we did not give it.
pub(crate) fn loser(ns: &Ns, message: &Message<'_>) -> Option<Table> {
    let takes = matches!(
        i32::from(message.kind & 0xff),
        libc::NFT_MSG_DELTABLE
            | libc::NFT_MSG_NEWCHAIN
            | libc::NFT_MSG_DELCHAIN
            | libc::NFT_MSG_NEWRULE
            | libc::NFT_MSG_DELRULE
            | libc::NFT_MSG_DELSET
            | libc::NFT_MSG_DELSETELEM
    );
    let name = attributes(message.payload.get(NFGENMSG..)?)
        .find(|attribute| attribute.kind() == TABLE_NAME)
        .and_then(|attribute| parse_string(attribute.value()).ok());
    let family = family_of(*message.payload.first()?)?;
    let mut ours = tables(ns).filter(|table| takes && table.family == family);
    ours.find(|table| name.as_deref() == Some(&*table.name))
}

fn chains(socket: &mut Socket, table: &Table) -> Result<Vec<Chain>, Cause> {
    let question = library::Chain::new().request(libc::NFT_MSG_GETCHAIN, 0, family_number(table.family));
    socket.dump(question, |message| {
        let found = library::Chain::read(message)?;
        if found.get_text(sys::NFTNL_CHAIN_TABLE)? != &*table.name {
            return None;
        }
        let kind = found.get_text(sys::NFTNL_CHAIN_TYPE).and_then(read_kind);
        let base = read_hook(&found).zip(kind).map(|((hook, priority), kind)| Base { kind, hook, priority });
        let name = found.get_text(sys::NFTNL_CHAIN_NAME).unwrap_or_default().into();
        Some(Chain { name, base, rules: Vec::new() })
    })
}

fn read_hook(chain: &library::Chain) -> Option<(Hook, i32)> {
    let number = chain.get_number(sys::NFTNL_CHAIN_HOOKNUM)?;
    let hooks = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
    let hook = hooks.into_iter().find(|hook| hook_number(*hook) == number)?;
    Some((hook, chain.get_number(sys::NFTNL_CHAIN_PRIO)? as i32))
}

fn read_kind(name: &str) -> Option<ChainKind> {
    [ChainKind::Filter, ChainKind::Nat].into_iter().find(|kind| kind_name(*kind) == name)
}

/// Rules with their chains' names. One without our tag is not ours, and makes the table differ.
fn rules(socket: &mut Socket, table: &Table) -> Result<Vec<(Option<String>, Rule)>, Cause> {
    let mut question = library::Rule::new();
    question.text(sys::NFTNL_RULE_TABLE, &table.name);
    let question = question.request(libc::NFT_MSG_GETRULE, 0, family_number(table.family));
    socket.dump(question, |message| {
        let Some(found) = library::Rule::read(message) else {
            return Some((None, Rule::observed(String::new())));
        };
        if found.get_text(sys::NFTNL_RULE_TABLE)? != &*table.name {
            return None;
        }
        // A comment is the first note, after its type and length.
        let comment = text(found.get_note().get(2..).unwrap_or_default());
        let chain = found.get_text(sys::NFTNL_RULE_CHAIN).map(str::to_owned);
        Some((chain, Rule::observed(comment.to_owned())))
    })
}

fn sets(socket: &mut Socket, table: &Table) -> Result<Vec<Set>, Cause> {
    let mut question = library::Set::new();
    question.text(sys::NFTNL_SET_TABLE, &table.name);
    let question = question.request(libc::NFT_MSG_GETSET, 0, family_number(table.family));
    socket.dump(question, |message| {
        let found = library::Set::read(message)?;
        (found.get_text(sys::NFTNL_SET_TABLE)? == &*table.name).then(|| Set {
            name: found.get_text(sys::NFTNL_SET_NAME).unwrap_or_default().into(),
            key: found.get_number(sys::NFTNL_SET_KEY_TYPE).map(read_types).unwrap_or_default(),
            data: found
                .get_number(sys::NFTNL_SET_DATA_TYPE)
                .filter(|_| has(&found, SET_FLAG_MAP))
                .and_then(data_type_of),
            ranges: has(&found, SET_FLAG_INTERVAL),
        })
    })
}

fn has(set: &library::Set, flag: u32) -> bool {
    set.get_number(sys::NFTNL_SET_FLAGS).is_some_and(|flags| flags & flag != 0)
}

fn read_types(mut number: u32) -> Vec<SetType> {
    let mut types = Vec::new();
    while number != 0 {
        let Some(found) = type_of(number & ((1 << TYPE_BITS) - 1)) else { return Vec::new() };
        types.insert(0, found);
        number >>= TYPE_BITS;
    }
    types
}

fn read_elements(message: &Message<'_>, types: &[SetType]) -> Vec<(Element, Option<Value>)> {
    let Some(found) = library::Elements::read(message) else { return Vec::new() };
    let known = |found: library::SetElement| {
        let end = found.end.as_deref().unwrap_or(&found.key);
        Some((read_key(&found.key, end, types)?, read_value(&found)))
    };
    found.list().into_iter().filter_map(known).collect()
}

fn read_value(found: &library::SetElement) -> Option<Value> {
    if let Some((code, chain)) = &found.verdict {
        return verdict_of(*code, chain.as_deref()).map(Value::Verdict);
    }
    let data = found.data.as_deref()?;
    let address = |bytes: &[u8]| {
        let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
        v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
    };
    match data.len() {
        4 | 16 => address(data).map(Value::Address),
        6 => bytes(data).map(|mac| Value::Mac(MacAddress(mac))),
        _ => {
            let (of_address, port) = data.split_at_checked(data.len().checked_sub(4)?)?;
            let port = u16::from_be_bytes(bytes(port)?);
            Some(Value::AddressPort(SocketAddr::new(address(of_address)?, port)))
        }
    }
}

/// `end`: the last key of the range, the same as the first where there is none.
fn read_key(mut key: &[u8], mut end: &[u8], types: &[SetType]) -> Option<Element> {
    let mut element = Vec::with_capacity(types.len());
    for set_type in types {
        element.push(match set_type {
            SetType::Ifname => Datum::Ifname(text(key.get(..16)?).into()),
            SetType::V4 => Datum::V4(Ipv4Addr::from(bytes::<4>(key)?)),
            SetType::V6 => Datum::V6(Ipv6Addr::from(bytes::<16>(key)?)),
            SetType::Mac => Datum::Mac(MacAddress(bytes(key)?)),
            SetType::Protocol => {
                let number = *key.first()?;
                let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
                Datum::Protocol(known.into_iter().find(|p| p.number() == number)?)
            }
            SetType::Port => {
                let [first, last] = [bytes(key)?, bytes(end)?].map(u16::from_be_bytes);
                Datum::Ports(PortRange::new(first, last)?)
            }
        });
        let length = type_length(*set_type).next_multiple_of(4);
        key = key.get(length..).unwrap_or_default();
        end = end.get(length..).unwrap_or_default();
    }
    Some(element)
}

fn type_of_datum(datum: &Datum) -> SetType {
    match datum {
        Datum::Ifname(_) => SetType::Ifname,
        Datum::V4(_) => SetType::V4,
        Datum::V6(_) => SetType::V6,
        Datum::Mac(_) => SetType::Mac,
        Datum::Protocol(_) => SetType::Protocol,
        Datum::Ports(_) => SetType::Port,
    }
}

fn bytes<const N: usize>(payload: &[u8]) -> Option<[u8; N]> {
    payload.first_chunk().copied()
}

/// Up to the final zero; what is not UTF-8 is nothing of ours.
fn text(payload: &[u8]) -> &str {
    let end = payload.iter().position(|b| *b == 0).unwrap_or(payload.len());
    std::str::from_utf8(&payload[..end]).unwrap_or_default()
}
