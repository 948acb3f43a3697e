//! nftables: rulesets compiled to one transaction, and read back.
//!
//! Written against linux/netfilter/nf_tables.h directly: the safe bindings know neither maps nor dumps, and the library
//! below them would be one more that every host needs.

mod attributes;
mod constants;
mod expression;
mod observe;
mod write;

pub(crate) use constants::GROUP;
pub(crate) use observe::{element, ruleset, rulesets, set_elements, takes_from_ours};
pub(crate) use write::{Transaction, delete_table};
