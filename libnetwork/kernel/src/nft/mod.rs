//! nftables: rulesets compiled to one transaction, and read back.
//!
//! Messages are built and read by libnftnl (`library`), and travel over our own socket as rtnetlink's do. What the kernel
//! names by number is in `constants`.

mod constants;
mod expression;
mod library;
mod observe;
mod others;
mod write;

pub(crate) use constants::GROUP;
pub(crate) use observe::{element, loser, ruleset, rulesets, set_elements};
pub use others::{InputChain, input_chains};
pub(crate) use write::{Transaction, delete_table};
