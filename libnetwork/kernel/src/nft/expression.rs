//! Rules' expressions as the kernel's small virtual machine has them: load into a register, compare, act.

use std::net::IpAddr;

use libnetwork_plan::{Expr, Family, Field, Verdict};

use super::{constants::*, write::element_key};
use crate::netlink::Request;

const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;

/// Registers 1 and 2 are of 16 bytes each and stand side by side, so that two interface names fill both.
const REGISTER: u32 = 1;
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

const BASE_LINK: u32 = 0;
const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;
const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

pub(super) fn write(list: &mut Request, family: Family, expression: &Expr) {
    match expression {
        Expr::Lookup { fields, set, not } => {
            load_fields(list, fields);
            one(list, "lookup", |data| {
                data.text(1, set).be32(2, REGISTER);
                if *not {
                    data.be32(5, 1);
                }
            });
        }
        Expr::VerdictMap { fields, map } => {
            load_fields(list, fields);
            one(list, "lookup", |data| {
                data.text(1, map).be32(2, REGISTER).be32(3, REGISTER_VERDICT);
            });
        }
        Expr::Established => {
            one(list, "ct", |data| {
                data.be32(1, REGISTER).be32(2, CT_STATE);
            });
            any_bit(list, CT_ESTABLISHED_RELATED);
        }
        Expr::Mark(mask) => {
            meta(list, META_MARK, REGISTER);
            masked(list, *mask);
            compare(list, EQUAL, &mask.to_ne_bytes());
        }
        Expr::EtherType(number) => {
            meta(list, META_PROTOCOL, REGISTER);
            compare(list, EQUAL, &number.to_be_bytes());
        }
        Expr::Is(field, datum) => {
            load_field(list, REGISTER, *field);
            compare(list, EQUAL, &element_key(std::slice::from_ref(datum)));
        }
        Expr::Icmpv6Type(number) => {
            payload(list, REGISTER, BASE_TRANSPORT, 0, 1);
            compare(list, EQUAL, &[*number]);
        }
        Expr::Nfproto { ipv6 } => nfproto(list, *ipv6),
        Expr::Source(address) => address_is(list, family, *address, 12, 8),
        Expr::Destination(address) => address_is(list, family, *address, 16, 24),
        Expr::Transport(number) => {
            meta(list, META_L4PROTO, REGISTER);
            compare(list, EQUAL, &[*number]);
        }
        Expr::SourcePort(port) => port_is(list, SOURCE_PORT, *port),
        Expr::DestinationPort(port) => port_is(list, DESTINATION_PORT, *port),
        Expr::Verdict(verdict) => one(list, "immediate", |data| {
            data.be32(1, REGISTER_VERDICT).nest(2, |data| verdict_data(data, *verdict));
        }),
        Expr::Masquerade => one(list, "masq", |_| {}),
        Expr::RewriteSourcePort { transport, port } => rewrite(list, SOURCE_PORT, *transport, *port),
        Expr::RewriteDestinationPort { transport, port } => {
            rewrite(list, DESTINATION_PORT, *transport, *port)
        }
        Expr::NoTrack => one(list, "notrack", |_| {}),
    }
}

/// The data of a verdict, in rules and in maps.
pub(super) fn verdict_data(data: &mut Request, verdict: Verdict) {
    let code = match verdict {
        Verdict::Accept => VERDICT_ACCEPT,
        Verdict::Drop => VERDICT_DROP,
        Verdict::Return => VERDICT_RETURN,
    };
    data.nest(DATA_VERDICT, |data| {
        data.be32(VERDICT_CODE, code);
    });
}

fn one(list: &mut Request, name: &str, fill: impl FnOnce(&mut Request)) {
    list.nest(LIST_ELEMENT, |element| {
        element.text(EXPR_NAME, name).nest(EXPR_DATA, fill);
    });
}

fn load_fields(list: &mut Request, fields: &[Field]) {
    for (register, field) in (REGISTER..).zip(fields) {
        load_field(list, register, *field);
    }
}

/// Offsets are those of Ethernet (6: source), IPv4 (RFC 791), IPv6 (RFC 8200), ARP over Ethernet (RFC 826) and neighbour
/// discovery (RFC 4861).
fn load_field(list: &mut Request, register: u32, field: Field) {
    match field {
        Field::InputName => meta(list, META_IIFNAME, register),
        Field::OutputName => meta(list, META_OIFNAME, register),
        Field::EtherSource => payload(list, register, BASE_LINK, 6, 6),
        Field::Source4 => payload(list, register, BASE_NETWORK, 12, 4),
        Field::Source6 => payload(list, register, BASE_NETWORK, 8, 16),
        Field::ArpSenderMac => payload(list, register, BASE_NETWORK, 8, 6),
        Field::ArpSender => payload(list, register, BASE_NETWORK, 14, 4),
        Field::NdTarget => payload(list, register, BASE_TRANSPORT, 8, 16),
    }
}

fn meta(list: &mut Request, key: u32, register: u32) {
    one(list, "meta", |data| {
        data.be32(1, register).be32(2, key);
    });
}

fn compare(list: &mut Request, how: u32, value: &[u8]) {
    one(list, "cmp", |data| {
        data.be32(1, REGISTER).be32(2, how).nest(3, |data| {
            data.bytes(DATA_VALUE, value);
        });
    });
}

/// Keeps the mask's bits of the register.
fn masked(list: &mut Request, mask: u32) {
    let value = |bytes: [u8; 4]| {
        move |data: &mut Request| {
            data.bytes(DATA_VALUE, &bytes);
        }
    };
    one(list, "bitwise", |data| {
        data.be32(1, REGISTER).be32(2, REGISTER).be32(3, 4);
        data.nest(4, value(mask.to_ne_bytes())).nest(5, value([0; 4]));
    });
}

fn any_bit(list: &mut Request, mask: u32) {
    masked(list, mask);
    compare(list, NOT_EQUAL, &[0; 4]);
}

fn nfproto(list: &mut Request, ipv6: bool) {
    meta(list, META_NFPROTO, REGISTER);
    compare(list, EQUAL, &[family_number(if ipv6 { Family::Ipv6 } else { Family::Ipv4 })]);
}

/// The offsets are those in an IPv4 and in an IPv6 header.
fn address_is(list: &mut Request, family: Family, address: IpAddr, at_ipv4: u32, at_ipv6: u32) {
    if family == Family::Inet {
        nfproto(list, address.is_ipv6());
    }
    match address {
        IpAddr::V4(address) => {
            payload(list, REGISTER, BASE_NETWORK, at_ipv4, 4);
            compare(list, EQUAL, &address.octets());
        }
        IpAddr::V6(address) => {
            payload(list, REGISTER, BASE_NETWORK, at_ipv6, 16);
            compare(list, EQUAL, &address.octets());
        }
    }
}

fn port_is(list: &mut Request, at: u32, port: u16) {
    payload(list, REGISTER, BASE_TRANSPORT, at, 2);
    compare(list, EQUAL, &port.to_be_bytes());
}

fn payload(list: &mut Request, register: u32, base: u32, at: u32, length: u32) {
    one(list, "payload", |data| {
        data.be32(1, register).be32(2, base).be32(3, at).be32(4, length);
    });
}

/// Writes a port, with the checksum where the transport protocol has it (RFC 768, RFC 9293).
fn rewrite(list: &mut Request, at: u32, transport: u8, port: u16) {
    one(list, "immediate", |data| {
        data.be32(1, REGISTER).nest(2, |data| {
            data.bytes(DATA_VALUE, &port.to_be_bytes());
        });
    });
    let checksum = if transport == libc::IPPROTO_UDP as u8 { 6 } else { 16 };
    one(list, "payload", |data| {
        data.be32(5, REGISTER).be32(2, BASE_TRANSPORT).be32(3, at).be32(4, 2);
        data.be32(6, 1).be32(7, checksum).be32(8, 0);
    });
}
