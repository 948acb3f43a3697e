//! linux/netfilter/nf_tables.h and nfnetlink.h, as far as we speak it.

use libnetwork_plan::{Family, MapType, Name, SetType, Verdict};

/// NFNLGRP_NFTABLES: notifications of every change.
pub(crate) const GROUP: u32 = 7;

/// Families as nfgenmsg has them (NFPROTO_*, linux/netfilter.h).
pub(super) fn family_number(family: Family) -> u8 {
    match family {
        Family::Inet => 1,
        Family::Ipv4 => 2,
        Family::Bridge => 7,
        Family::Ipv6 => 10,
    }
}

pub(super) fn family_of(number: u8) -> Option<Family> {
    [Family::Inet, Family::Ipv4, Family::Bridge, Family::Ipv6]
        .into_iter()
        .find(|f| family_number(*f) == number)
}

/// The table's name is the first attribute of every kind of message (NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, …).
pub(super) const TABLE_NAME: u16 = 1;

pub(super) const SET_FLAG_MAP: u32 = libc::NFT_SET_MAP as u32;
pub(super) const SET_FLAG_INTERVAL: u32 = libc::NFT_SET_INTERVAL as u32;
/// NFT_SET_CONCAT
pub(super) const SET_FLAG_CONCAT: u32 = 0x80;
/// NFT_DATA_VERDICT, the type of a verdict map's data.
pub(super) const TYPE_VERDICT: u32 = 0xffff_ff00;

const VERDICT_DROP: u32 = 0;
const VERDICT_ACCEPT: u32 = 1;
/// NFT_RETURN, -5.
const VERDICT_RETURN: u32 = 0xffff_fffb;

/// NFT_GOTO, -4.
const VERDICT_GOTO: u32 = 0xffff_fffc;

/// A verdict's number, and the chain that it leads to.
pub(super) fn verdict_code(verdict: &Verdict) -> (u32, Option<&Name>) {
    match verdict {
        Verdict::Accept => (VERDICT_ACCEPT, None),
        Verdict::Drop => (VERDICT_DROP, None),
        Verdict::Return => (VERDICT_RETURN, None),
        Verdict::Goto(chain) => (VERDICT_GOTO, Some(chain)),
    }
}

pub(super) fn verdict_of(code: u32, chain: Option<&str>) -> Option<Verdict> {
    let led = chain.map(|chain| Verdict::Goto(chain.into()));
    let known = [Verdict::Accept, Verdict::Drop, Verdict::Return].into_iter().chain(led);
    known.into_iter().find(|verdict| verdict_code(verdict).0 == code)
}

/// Numbers and lengths by which nft knows types (enum datatypes in its own datatype.h): they tell `nft list` how to
/// print a set.
pub(super) fn type_number(set_type: SetType) -> u32 {
    match set_type {
        SetType::V4 => 7,
        SetType::V6 => 8,
        SetType::Mac => 9,
        SetType::Protocol => 12,
        SetType::Port => 13,
        SetType::Ifname => 41,
    }
}

pub(super) fn type_of(number: u32) -> Option<SetType> {
    [SetType::V4, SetType::V6, SetType::Mac, SetType::Protocol, SetType::Port, SetType::Ifname]
        .into_iter()
        .find(|t| type_number(*t) == number)
}

/// The type and the bytes of what a map's keys lead to; a verdict has its own place.
pub(super) fn data_type(data: MapType) -> (u32, usize) {
    match data {
        MapType::Verdict => (TYPE_VERDICT, 0),
        MapType::Mac => (type_number(SetType::Mac), type_length(SetType::Mac)),
        MapType::V4 => (type_number(SetType::V4), type_length(SetType::V4)),
        MapType::V6 => (type_number(SetType::V6), type_length(SetType::V6)),
        MapType::V4Port => with_port(SetType::V4),
        MapType::V6Port => with_port(SetType::V6),
    }
}

fn with_port(address: SetType) -> (u32, usize) {
    (type_number(address) << TYPE_BITS | type_number(SetType::Port), type_length(address) + 4)
}

pub(super) fn data_type_of(number: u32) -> Option<MapType> {
    let known = [MapType::Verdict, MapType::Mac, MapType::V4, MapType::V6, MapType::V4Port, MapType::V6Port];
    known.into_iter().find(|t| data_type(*t).0 == number)
}

/// Bytes of a value. In a key every value is padded to four (registers are of 32 bits).
pub(super) fn type_length(set_type: SetType) -> usize {
    match set_type {
        SetType::V4 => 4,
        SetType::V6 | SetType::Ifname => 16,
        SetType::Mac => 6,
        SetType::Protocol => 1,
        SetType::Port => 2,
    }
}

/// Types of a concatenation, six bits each.
pub(super) const TYPE_BITS: u32 = 6;
