//! The one adapter to netlink, nftables and namespaces.
