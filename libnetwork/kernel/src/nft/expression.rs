//! Rules' expressions as the kernel's small virtual machine has them: load into a register, compare, act.

use std::net::IpAddr;

use libnetwork_model::PortRange;
use libnetwork_plan::{Expr, Family, Field, SetType};

use nftnl_sys as sys;

use super::{
    constants::*,
    library::{Expression, Rule},
    write::element_key,
};

/// A register of 16 bytes, which is also the first four of 4 bytes: concatenated fields stand in those side by side.
const REGISTER: u32 = 1;
/// NFT_REG32_00
const REGISTER_OF_4: u32 = 8;
const REGISTER_VERDICT: u32 = 0;

const META_PROTOCOL: u32 = 1;
const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;

const CT_STATE: u32 = 0;
/// NF_CT_STATE_BIT of IP_CT_ESTABLISHED and IP_CT_RELATED.
const CT_ESTABLISHED_RELATED: u32 = 2 | 4;

const CT_STATUS: u32 = 2;
/// IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h).
const CT_DST_NAT: u32 = 1 << 5;
/// NFT_FIB_RESULT_ADDRTYPE and NFTA_FIB_F_DADDR.
const FIB_RESULT_ADDRTYPE: u32 = 3;
const FIB_F_DADDR: u32 = 2;

const BASE_LINK: u32 = 0;
const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;
const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;

/// RFC 826
const ARP_REQUEST: u16 = 1;

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
/// NFT_CMP_LT
const LESS: u32 = 2;

pub(super) fn write(rule: &mut Rule, family: Family, expression: &Expr) {
    match expression {
        Expr::Lookup { fields, set, not } => {
            let lookup = lookup(rule, fields, set);
            let inverted = libc::NFT_LOOKUP_F_INV as u32;
            rule.add(if *not { lookup.number(sys::NFTNL_EXPR_LOOKUP_FLAGS, inverted) } else { lookup });
        }
        Expr::VerdictMap { fields, map } => {
            let lookup = lookup(rule, fields, map);
            rule.add(lookup.number(sys::NFTNL_EXPR_LOOKUP_DREG, REGISTER_VERDICT));
        }
        Expr::Established => {
            let state = Expression::new(c"ct").number(sys::NFTNL_EXPR_CT_DREG, REGISTER);
            rule.add(state.number(sys::NFTNL_EXPR_CT_KEY, CT_STATE));
            any_bit(rule, CT_ESTABLISHED_RELATED);
        }
        Expr::Mark(mask) => {
            meta(rule, META_MARK, REGISTER);
            masked(rule, *mask);
            compare(rule, EQUAL, &mask.to_ne_bytes());
        }
        Expr::EtherType(number) => {
            meta(rule, META_PROTOCOL, REGISTER);
            compare(rule, EQUAL, &number.to_be_bytes());
        }
        Expr::ToBridges => {
            payload(rule, REGISTER, BASE_LINK, 0, 5);
            compare(rule, EQUAL, &[0x01, 0x80, 0xc2, 0, 0]);
            payload(rule, REGISTER, BASE_LINK, 5, 1);
            compare(rule, LESS, &[0x10]);
        }
        Expr::Is(field, datum) => {
            load_field(rule, REGISTER, *field);
            compare(rule, EQUAL, &element_key(std::slice::from_ref(datum), PortRange::first));
        }
        Expr::ArpRequest => {
            payload(rule, REGISTER, BASE_NETWORK, 6, 2);
            compare(rule, EQUAL, &ARP_REQUEST.to_be_bytes());
        }
        Expr::Icmpv6Type(number) => {
            payload(rule, REGISTER, BASE_TRANSPORT, 0, 1);
            compare(rule, EQUAL, &[*number]);
        }
        Expr::Nfproto { ipv6 } => nfproto(rule, *ipv6),
        Expr::Source(address) => address_is(rule, family, *address, 12, 8),
        Expr::Destination(address) => address_is(rule, family, *address, 16, 24),
        Expr::Transport(number) => {
            meta(rule, META_L4PROTO, REGISTER);
            compare(rule, EQUAL, &[*number]);
        }
        Expr::SourcePort(port) => port_is(rule, SOURCE_PORT, *port),
        Expr::DestinationPort(port) => port_is(rule, DESTINATION_PORT, *port),
        Expr::Verdict(verdict) => {
            let (code, chain) = verdict_code(verdict);
            let immediate = Expression::new(c"immediate").number(sys::NFTNL_EXPR_IMM_DREG, REGISTER_VERDICT);
            let immediate = immediate.number(sys::NFTNL_EXPR_IMM_VERDICT, code);
            rule.add(match chain {
                Some(chain) => immediate.text(sys::NFTNL_EXPR_IMM_CHAIN, chain),
                None => immediate,
            });
        }
        Expr::EtherDestination { fields, map } => {
            let lookup = lookup(rule, fields, map);
            rule.add(lookup.number(sys::NFTNL_EXPR_LOOKUP_DREG, REGISTER));
            let payload = Expression::new(c"payload").number(sys::NFTNL_EXPR_PAYLOAD_SREG, REGISTER);
            rule.add(part(payload, BASE_LINK, 0, 6));
        }
        Expr::Masquerade => rule.add(Expression::new(c"masq")),
        Expr::SourceNat { fields, map, ipv6 } => {
            let lookup = lookup(rule, fields, map);
            rule.add(lookup.number(sys::NFTNL_EXPR_LOOKUP_DREG, REGISTER));
            let family = family_number(if *ipv6 { Family::Ipv6 } else { Family::Ipv4 });
            let nat = Expression::new(c"nat").number(sys::NFTNL_EXPR_NAT_TYPE, libc::NFT_NAT_SNAT as u32);
            let nat = nat.number(sys::NFTNL_EXPR_NAT_FAMILY, family.into());
            rule.add(nat.number(sys::NFTNL_EXPR_NAT_REG_ADDR_MIN, REGISTER));
        }
        Expr::DestinationNat { fields, map, ipv6, port } => {
            let lookup = lookup(rule, fields, map);
            rule.add(lookup.number(sys::NFTNL_EXPR_LOOKUP_DREG, REGISTER_OF_4));
            let (family, address) =
                if *ipv6 { (Family::Ipv6, SetType::V6) } else { (Family::Ipv4, SetType::V4) };
            let nat = Expression::new(c"nat").number(sys::NFTNL_EXPR_NAT_TYPE, libc::NFT_NAT_DNAT as u32);
            let nat = nat.number(sys::NFTNL_EXPR_NAT_FAMILY, family_number(family).into());
            let nat = nat.number(sys::NFTNL_EXPR_NAT_REG_ADDR_MIN, REGISTER_OF_4);
            let behind = REGISTER_OF_4 + (type_length(address) / 4) as u32;
            rule.add(if *port { nat.number(sys::NFTNL_EXPR_NAT_REG_PROTO_MIN, behind) } else { nat });
        }
        Expr::Redirected => {
            let status = Expression::new(c"ct").number(sys::NFTNL_EXPR_CT_DREG, REGISTER);
            rule.add(status.number(sys::NFTNL_EXPR_CT_KEY, CT_STATUS));
            any_bit(rule, CT_DST_NAT);
        }
        Expr::ToHost => {
            let fib = Expression::new(c"fib").number(sys::NFTNL_EXPR_FIB_DREG, REGISTER);
            let fib = fib.number(sys::NFTNL_EXPR_FIB_RESULT, FIB_RESULT_ADDRTYPE);
            rule.add(fib.number(sys::NFTNL_EXPR_FIB_FLAGS, FIB_F_DADDR));
            compare(rule, EQUAL, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
        }
        Expr::FromLoopback => loopback(rule, 12),
        Expr::ToLoopback => loopback(rule, 16),
        Expr::RewriteSourcePort { transport, port } => rewrite(rule, SOURCE_PORT, *transport, *port),
        Expr::RewriteDestinationPort { transport, port } => {
            rewrite(rule, DESTINATION_PORT, *transport, *port)
        }
        Expr::NoTrack => rule.add(Expression::new(c"notrack")),
    }
}

/// The question for a set, with the fields loaded.
fn lookup(rule: &mut Rule, fields: &[Field], set: &str) -> Expression {
    let first = if fields.len() > 1 { REGISTER_OF_4 } else { REGISTER };
    let mut register = first;
    for field in fields {
        load_field(rule, register, *field);
        register += type_length(field_type(*field)).div_ceil(4) as u32;
    }
    let lookup = Expression::new(c"lookup").text(sys::NFTNL_EXPR_LOOKUP_SET, set);
    lookup.number(sys::NFTNL_EXPR_LOOKUP_SREG, first)
}

fn field_type(field: Field) -> SetType {
    match field {
        Field::InputName | Field::OutputName => SetType::Ifname,
        Field::EtherSource | Field::ArpSenderMac => SetType::Mac,
        Field::Source4 | Field::Destination4 | Field::ArpSender | Field::ArpTarget => SetType::V4,
        Field::Source6 | Field::Destination6 | Field::NdTarget => SetType::V6,
        Field::Transport => SetType::Protocol,
        Field::SourcePort | Field::DestinationPort => SetType::Port,
    }
}

/// Offsets are those of Ethernet (6: source), IPv4 (RFC 791), IPv6 (RFC 8200), ARP over Ethernet (RFC 826) and neighbour
/// discovery (RFC 4861).
fn load_field(rule: &mut Rule, register: u32, field: Field) {
    match field {
        Field::InputName => meta(rule, META_IIFNAME, register),
        Field::OutputName => meta(rule, META_OIFNAME, register),
        Field::EtherSource => payload(rule, register, BASE_LINK, 6, 6),
        Field::Source4 => payload(rule, register, BASE_NETWORK, 12, 4),
        Field::Source6 => payload(rule, register, BASE_NETWORK, 8, 16),
        Field::Destination4 => payload(rule, register, BASE_NETWORK, 16, 4),
        Field::Destination6 => payload(rule, register, BASE_NETWORK, 24, 16),
        Field::Transport => meta(rule, META_L4PROTO, register),
        Field::SourcePort => payload(rule, register, BASE_TRANSPORT, SOURCE_PORT, 2),
        Field::DestinationPort => payload(rule, register, BASE_TRANSPORT, DESTINATION_PORT, 2),
        Field::ArpSenderMac => payload(rule, register, BASE_NETWORK, 8, 6),
        Field::ArpSender => payload(rule, register, BASE_NETWORK, 14, 4),
        Field::ArpTarget => payload(rule, register, BASE_NETWORK, 24, 4),
        Field::NdTarget => payload(rule, register, BASE_TRANSPORT, 8, 16),
    }
}

fn meta(rule: &mut Rule, key: u32, register: u32) {
    let meta = Expression::new(c"meta").number(sys::NFTNL_EXPR_META_DREG, register);
    rule.add(meta.number(sys::NFTNL_EXPR_META_KEY, key));
}

fn compare(rule: &mut Rule, how: u32, value: &[u8]) {
    let compare = Expression::new(c"cmp").number(sys::NFTNL_EXPR_CMP_SREG, REGISTER);
    rule.add(compare.number(sys::NFTNL_EXPR_CMP_OP, how).bytes(sys::NFTNL_EXPR_CMP_DATA, value));
}

/// Keeps the mask's bits of the register.
fn masked(rule: &mut Rule, mask: u32) {
    let bitwise = Expression::new(c"bitwise")
        .number(sys::NFTNL_EXPR_BITWISE_SREG, REGISTER)
        .number(sys::NFTNL_EXPR_BITWISE_DREG, REGISTER)
        .number(sys::NFTNL_EXPR_BITWISE_LEN, 4);
    let bitwise = bitwise.bytes(sys::NFTNL_EXPR_BITWISE_MASK, &mask.to_ne_bytes());
    rule.add(bitwise.bytes(sys::NFTNL_EXPR_BITWISE_XOR, &[0; 4]));
}

/// The first byte of the IPv4 address there.
fn loopback(rule: &mut Rule, at: u32) {
    nfproto(rule, false);
    payload(rule, REGISTER, BASE_NETWORK, at, 1);
    compare(rule, EQUAL, &[127]);
}

fn any_bit(rule: &mut Rule, mask: u32) {
    masked(rule, mask);
    compare(rule, NOT_EQUAL, &[0; 4]);
}

fn nfproto(rule: &mut Rule, ipv6: bool) {
    meta(rule, META_NFPROTO, REGISTER);
    compare(rule, EQUAL, &[family_number(if ipv6 { Family::Ipv6 } else { Family::Ipv4 })]);
}

/// The offsets are those in an IPv4 and in an IPv6 header.
fn address_is(rule: &mut Rule, family: Family, address: IpAddr, at_ipv4: u32, at_ipv6: u32) {
    if family == Family::Inet {
        nfproto(rule, address.is_ipv6());
    }
    match address {
        IpAddr::V4(address) => {
            payload(rule, REGISTER, BASE_NETWORK, at_ipv4, 4);
            compare(rule, EQUAL, &address.octets());
        }
        IpAddr::V6(address) => {
            payload(rule, REGISTER, BASE_NETWORK, at_ipv6, 16);
            compare(rule, EQUAL, &address.octets());
        }
    }
}

fn port_is(rule: &mut Rule, at: u32, port: u16) {
    payload(rule, REGISTER, BASE_TRANSPORT, at, 2);
    compare(rule, EQUAL, &port.to_be_bytes());
}

fn payload(rule: &mut Rule, register: u32, base: u32, at: u32, length: u32) {
    let payload = Expression::new(c"payload").number(sys::NFTNL_EXPR_PAYLOAD_DREG, register);
    rule.add(part(payload, base, at, length));
}

fn part(payload: Expression, base: u32, at: u32, length: u32) -> Expression {
    payload
        .number(sys::NFTNL_EXPR_PAYLOAD_BASE, base)
        .number(sys::NFTNL_EXPR_PAYLOAD_OFFSET, at)
        .number(sys::NFTNL_EXPR_PAYLOAD_LEN, length)
}

/// Writes a port, with the checksum where the transport protocol has it (RFC 768, RFC 9293).
fn rewrite(rule: &mut Rule, at: u32, transport: u8, port: u16) {
    let immediate = Expression::new(c"immediate").number(sys::NFTNL_EXPR_IMM_DREG, REGISTER);
    rule.add(immediate.bytes(sys::NFTNL_EXPR_IMM_DATA, &port.to_be_bytes()));
    let checksum = if transport == libc::IPPROTO_UDP as u8 { 6 } else { 16 };
    let payload = Expression::new(c"payload").number(sys::NFTNL_EXPR_PAYLOAD_SREG, REGISTER);
    rule.add(
        part(payload, BASE_TRANSPORT, at, 2)
            .number(sys::NFTNL_EXPR_PAYLOAD_CSUM_TYPE, libc::NFT_PAYLOAD_CSUM_INET as u32)
            .number(sys::NFTNL_EXPR_PAYLOAD_CSUM_OFFSET, checksum)
            .number(sys::NFTNL_EXPR_PAYLOAD_FLAGS, 0),
    );
}
