//! What is in our tables.

use std::net::{Ipv4Addr, Ipv6Addr};

use libnetwork_model::MacAddress;
use libnetwork_plan::{
    Base, Cause, Chain, ChainKind, Datum, Element, Hook, Name, Rule, Ruleset, Set, SetType, Table, Verdict,
};

use super::{
    attributes::{attributes, be_u32, bytes, text},
    constants::*,
    write::{element_request, hook_number, kind_name, new},
};
use crate::{
    netlink::{Message, Request, Socket},
    ownership::TABLE,
};

/// Our tables with all but their elements.
pub(crate) fn rulesets(socket: &mut Socket) -> Result<Vec<Ruleset>, Cause> {
    let request = Request::nft(message_kind(libc::NFT_MSG_GETTABLE), 0, header(libc::AF_UNSPEC as u8, 0));
    let tables = socket.dump(request, |message| {
        let (family, attrs) = split(message)?;
        let name = attributes(attrs).find(|(kind, _)| *kind == TABLE_NAME)?.1;
        (text(name) == TABLE).then(|| Table { family, name: TABLE.into() })
    })?;
    tables.iter().filter_map(|table| ruleset(socket, table).transpose()).collect()
}

/// One table with all but its elements; none when it is not there.
pub(crate) fn ruleset(socket: &mut Socket, table: &Table) -> Result<Option<Ruleset>, Cause> {
    let mut request = new(libc::NFT_MSG_GETTABLE, 0, table);
    request.text(TABLE_NAME, &table.name);
    if socket.get(request, |_| Some(()))?.is_none() {
        return Ok(None);
    }
    let mut chains = chains(socket, table)?;
    for (chain, rule) in rules(socket, table)? {
        if let Some(chain) = chains.iter_mut().find(|c| *c.name == *chain) {
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
) -> Result<Vec<(Element, Option<Verdict>)>, Cause> {
    let mut request = new(libc::NFT_MSG_GETSETELEM, 0, table);
    request.text(ELEMENTS_TABLE, &table.name).text(ELEMENTS_SET, &set.name);
    let found = socket.dump(request, |message| Some(read_elements(message, &set.key)))?;
    Ok(found.into_iter().flatten().collect())
}

/// One element: with which verdict it is there, if it is there.
pub(crate) fn element(
    socket: &mut Socket,
    table: &Table,
    set: &Name,
    element: &Element,
) -> Result<Option<Option<Verdict>>, Cause> {
    let request = element_request(libc::NFT_MSG_GETSETELEM, 0, table, set, element, None);
    let types: Vec<SetType> = element.iter().map(type_of_datum).collect();
    let found = socket.get(request, |message| read_elements(message, &types).into_iter().next())?;
    Ok(found.map(|(_, verdict)| verdict))
}

/// Whether a notification says that one of our tables lost something, or got rules that we did not give it.
pub(crate) fn takes_from_ours(message: &Message<'_>) -> bool {
    let Some((_, attrs)) = split(message) else { return false };
    // The table's name is attribute 1 of every kind of message.
    let named = attributes(attrs).any(|(kind, value)| kind == TABLE_NAME && text(value) == TABLE);
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
    named && takes
}

fn split<'a>(message: &Message<'a>) -> Option<(libnetwork_plan::Family, &'a [u8])> {
    Some((family_of(*message.payload.first()?)?, message.payload.get(4..)?))
}

fn chains(socket: &mut Socket, table: &Table) -> Result<Vec<Chain>, Cause> {
    socket.dump(new(libc::NFT_MSG_GETCHAIN, 0, table), |message| {
        let (_, attrs) = split(message)?;
        let mut chain = Chain { name: "".into(), base: None, rules: Vec::new() };
        let (mut ours, mut hook, mut kind) = (false, None, None);
        for (attribute, value) in attributes(attrs) {
            match attribute {
                CHAIN_TABLE => ours = text(value) == &*table.name,
                CHAIN_NAME => chain.name = text(value).into(),
                CHAIN_HOOK => hook = read_hook(value),
                CHAIN_TYPE => kind = read_kind(text(value)),
                _ => {}
            }
        }
        chain.base = hook.zip(kind).map(|((hook, priority), kind)| Base { kind, hook, priority });
        ours.then_some(chain)
    })
}

fn read_hook(value: &[u8]) -> Option<(Hook, i32)> {
    let find =
        |wanted| attributes(value).find(|(kind, _)| *kind == wanted).and_then(|(_, value)| be_u32(value));
    let number = find(HOOK_NUMBER)?;
    let hooks = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
    let hook = hooks.into_iter().find(|hook| hook_number(*hook) == number)?;
    Some((hook, find(HOOK_PRIORITY)? as i32))
}

fn read_kind(name: &str) -> Option<ChainKind> {
    [ChainKind::Filter, ChainKind::Nat].into_iter().find(|kind| kind_name(*kind) == name)
}

/// Rules with their chains' names. One without our tag is not ours, and makes the table differ.
fn rules(socket: &mut Socket, table: &Table) -> Result<Vec<(String, Rule)>, Cause> {
    let mut request = new(libc::NFT_MSG_GETRULE, 0, table);
    request.text(RULE_TABLE, &table.name);
    socket.dump(request, |message| {
        let (_, attrs) = split(message)?;
        let (mut chain, mut tag, mut ours) = (String::new(), String::new(), false);
        for (attribute, value) in attributes(attrs) {
            match attribute {
                RULE_TABLE => ours = text(value) == &*table.name,
                RULE_CHAIN => chain = text(value).to_owned(),
                // A comment is the first note, after its type and length.
                RULE_USERDATA => tag = text(value.get(2..).unwrap_or_default()).to_owned(),
                _ => {}
            }
        }
        ours.then(|| (chain, Rule::observed(tag)))
    })
}

fn sets(socket: &mut Socket, table: &Table) -> Result<Vec<Set>, Cause> {
    let mut request = new(libc::NFT_MSG_GETSET, 0, table);
    request.text(SET_TABLE, &table.name);
    socket.dump(request, |message| {
        let (_, attrs) = split(message)?;
        let mut set = Set { name: "".into(), key: Vec::new(), verdicts: false };
        let mut ours = false;
        for (attribute, value) in attributes(attrs) {
            match attribute {
                SET_TABLE => ours = text(value) == &*table.name,
                SET_NAME => set.name = text(value).into(),
                SET_FLAGS => set.verdicts = be_u32(value)? & SET_FLAG_MAP != 0,
                SET_KEY_TYPE => set.key = read_types(be_u32(value)?),
                _ => {}
            }
        }
        ours.then_some(set)
    })
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

fn read_elements(message: &Message<'_>, types: &[SetType]) -> Vec<(Element, Option<Verdict>)> {
    let Some((_, attrs)) = split(message) else { return Vec::new() };
    let lists = attributes(attrs).filter(|(kind, _)| *kind == ELEMENTS_LIST);
    lists.flat_map(|(_, list)| attributes(list)).filter_map(|(_, one)| read_element(one, types)).collect()
}

fn read_element(one: &[u8], types: &[SetType]) -> Option<(Element, Option<Verdict>)> {
    let (mut element, mut verdict) = (None, None);
    for (kind, value) in attributes(one) {
        match kind {
            ELEMENT_KEY => {
                let (_, key) = attributes(value).find(|(kind, _)| *kind == DATA_VALUE)?;
                element = read_key(key, types);
            }
            ELEMENT_DATA => verdict = read_verdict(value),
            _ => {}
        }
    }
    Some((element?, verdict))
}

fn read_verdict(data: &[u8]) -> Option<Verdict> {
    let (_, verdict) = attributes(data).find(|(kind, _)| *kind == DATA_VERDICT)?;
    let (_, code) = attributes(verdict).find(|(kind, _)| *kind == VERDICT_CODE)?;
    match be_u32(code)? {
        VERDICT_ACCEPT => Some(Verdict::Accept),
        VERDICT_DROP => Some(Verdict::Drop),
        VERDICT_RETURN => Some(Verdict::Return),
        _ => None,
    }
}

fn read_key(mut key: &[u8], types: &[SetType]) -> Option<Element> {
    let mut element = Vec::with_capacity(types.len());
    for set_type in types {
        element.push(match set_type {
            SetType::Ifname => Datum::Ifname(text(key.get(..16)?).into()),
            SetType::V4 => Datum::V4(Ipv4Addr::from(bytes::<4>(key)?)),
            SetType::V6 => Datum::V6(Ipv6Addr::from(bytes::<16>(key)?)),
            SetType::Mac => Datum::Mac(MacAddress(bytes(key)?)),
            SetType::Port => Datum::Port(u16::from_be_bytes(bytes(key)?)),
        });
        key = key.get(type_length(*set_type).next_multiple_of(4)..).unwrap_or_default();
    }
    Some(element)
}

fn type_of_datum(datum: &Datum) -> SetType {
    match datum {
        Datum::Ifname(_) => SetType::Ifname,
        Datum::V4(_) => SetType::V4,
        Datum::V6(_) => SetType::V6,
        Datum::Mac(_) => SetType::Mac,
        Datum::Port(_) => SetType::Port,
    }
}
