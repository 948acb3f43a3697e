//! The socket that rtnetlink and nftables both speak through.
//!
//! Messages are those of netlink-packet-route (built by rtnetlink's builders where it has them) on netlink-sys's sockets.
//! The loop of request, acknowledgement and dump is our own, since rtnetlink's
//! - takes a dump that the kernel marks as interrupted (NLM_F_DUMP_INTR) for a whole one,
//! - panics on an overrun message (`unimplemented!` in netlink-proto's codec),
//! - drops the explanation of an error (extended acknowledgement), and sends no two requests in one piece,
//! - needs a task on a runtime per socket, where one thread owns all of ours.

mod message;
mod read;
mod socket;
#[cfg(test)]
mod tests;

pub(crate) use message::Request;
pub(crate) use read::{Message, attributes};
pub(crate) use socket::{Protocol, Socket, drain};
