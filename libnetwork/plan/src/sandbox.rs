use libnetwork_model::{Intent, Sandbox};

use crate::Desired;

/// The port in a sandbox that the resolver listens on, at 127.0.0.11, UDP and TCP. Port 53 of that address is redirected
/// to it, so that port 53 itself stays free for the container's own programs.
pub const DNS_PORT: u16 = 61053;

/// What a sandbox needs besides its endpoints: its namespace, the rules that lead 127.0.0.11:53 to [`DNS_PORT`], and its
/// default routes. Nothing for a sandbox that is the host.
pub fn sandbox_objects(intent: &Intent, sandbox: &Sandbox, out: &mut Desired) {
    let _ = (intent, sandbox, out);
    todo!()
}
