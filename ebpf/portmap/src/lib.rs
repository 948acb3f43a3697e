//! Published ports in eBPF: loads, attaches, pins; implements PortMapper.
