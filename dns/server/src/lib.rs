//! Embedded DNS: sockets in sandboxes, forwarding; implements NameServer.
