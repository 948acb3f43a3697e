//! linux/netfilter/nf_tables.h and nfnetlink.h, as far as we speak it.

use libnetwork_plan::{Family, SetType};

pub(super) const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
/// NFNLGRP_NFTABLES: notifications of every change.
pub(crate) const GROUP: u32 = 7;

pub(super) const BATCH_BEGIN: u16 = 0x10;
pub(super) const BATCH_END: u16 = 0x11;

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

/// A message's type: the subsystem and what it does.
pub(super) fn message_kind(message: i32) -> u16 {
    SUBSYSTEM << 8 | message as u16
}

/// struct nfgenmsg: family u8, version u8 (0), resource u16.
pub(super) fn header(family: u8, resource: u16) -> [u8; 4] {
    let [a, b] = resource.to_be_bytes();
    [family, 0, a, b]
}

pub(super) const TABLE_NAME: u16 = 1;

pub(super) const CHAIN_TABLE: u16 = 1;
pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const CHAIN_HOOK: u16 = 4;
pub(super) const CHAIN_POLICY: u16 = 5;
pub(super) const CHAIN_TYPE: u16 = 7;
pub(super) const HOOK_NUMBER: u16 = 1;
pub(super) const HOOK_PRIORITY: u16 = 2;

pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const RULE_EXPRESSIONS: u16 = 4;
pub(super) const RULE_USERDATA: u16 = 7;

pub(super) const SET_TABLE: u16 = 1;
pub(super) const SET_NAME: u16 = 2;
pub(super) const SET_FLAGS: u16 = 3;
pub(super) const SET_KEY_TYPE: u16 = 4;
pub(super) const SET_KEY_LEN: u16 = 5;
pub(super) const SET_DATA_TYPE: u16 = 6;
pub(super) const SET_DATA_LEN: u16 = 7;
pub(super) const SET_DESC: u16 = 9;
pub(super) const SET_ID: u16 = 10;
pub(super) const SET_USERDATA: u16 = 13;
pub(super) const SET_DESC_CONCAT: u16 = 2;
pub(super) const SET_FIELD_LEN: u16 = 1;
pub(super) const SET_FLAG_MAP: u32 = 0x8;
pub(super) const SET_FLAG_CONCAT: u32 = 0x80;

pub(super) const ELEMENTS_TABLE: u16 = 1;
pub(super) const ELEMENTS_SET: u16 = 2;
pub(super) const ELEMENTS_LIST: u16 = 3;
pub(super) const ELEMENT_KEY: u16 = 1;
pub(super) const ELEMENT_DATA: u16 = 2;

pub(super) const LIST_ELEMENT: u16 = 1;
pub(super) const DATA_VALUE: u16 = 1;
pub(super) const DATA_VERDICT: u16 = 2;
pub(super) const VERDICT_CODE: u16 = 1;
/// NFT_DATA_VERDICT, the type of a verdict map's data.
pub(super) const TYPE_VERDICT: u32 = 0xffff_ff00;

pub(super) const VERDICT_DROP: u32 = 0;
pub(super) const VERDICT_ACCEPT: u32 = 1;
/// NFT_RETURN, -5.
pub(super) const VERDICT_RETURN: u32 = 0xffff_fffb;

/// Numbers and lengths by which nft knows types (enum datatypes in its own datatype.h): they tell `nft list` how to
/// print a set.
pub(super) fn type_number(set_type: SetType) -> u32 {
    match set_type {
        SetType::V4 => 7,
        SetType::V6 => 8,
        SetType::Mac => 9,
        SetType::Port => 13,
        SetType::Ifname => 41,
    }
}

pub(super) fn type_of(number: u32) -> Option<SetType> {
    [SetType::V4, SetType::V6, SetType::Mac, SetType::Port, SetType::Ifname]
        .into_iter()
        .find(|t| type_number(*t) == number)
}

/// Bytes of a value. In a key every value is padded to four (registers are of 32 bits).
pub(super) fn type_length(set_type: SetType) -> usize {
    match set_type {
        SetType::V4 => 4,
        SetType::V6 | SetType::Ifname => 16,
        SetType::Mac => 6,
        SetType::Port => 2,
    }
}

/// Types of a concatenation, six bits each.
pub(super) const TYPE_BITS: u32 = 6;
