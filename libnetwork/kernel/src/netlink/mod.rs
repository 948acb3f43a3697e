//! Netlink as bytes: requests built attribute by attribute, answers read the same way, and a socket that does not miss an
//! interrupted dump, an overrun or an extended acknowledgement. rtnetlink and nftables both speak through it.
//!
//! Attributes that a newer kernel adds are skipped here, never an error.

mod message;
mod read;
mod socket;

pub(crate) use message::Request;
pub(crate) use read::{attributes, be_u32, bytes, i32_at, text, u8, u16_at, u32_at};
pub(crate) use socket::{Message, Protocol, Received, Socket};
