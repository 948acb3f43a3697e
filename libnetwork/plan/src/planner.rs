use std::collections::BTreeSet;

use crate::{Desired, Key, Observed, Plan};

/// How much of the world to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything of ours and every foreign link of the host; and of what cannot be listed (sysctls) exactly these.
    /// Made by [`Scope::all`].
    All { sysctls: BTreeSet<Key> },
    /// Exactly these objects, so that a change costs in proportion to itself.
    Keys(BTreeSet<Key>),
}

impl Scope {
    /// Everything, with the sysctls that are desired.
    pub fn all(desired: &Desired) -> Scope {
        let sysctl = |k: &&Key| matches!(k, Key::Sysctl { .. } | Key::LinkSysctl { .. });
        Scope::All { sysctls: desired.keys().filter(sysctl).cloned().collect() }
    }
}

/// The operations that make `observed` into `desired`, within `scope`.
///
/// `observed` must be what an observation of the same scope gave. `desired` may be more than the scope: what hangs on a
/// link or namespace that has to be made again is made again with it, in scope or not.
pub fn plan(desired: &Desired, observed: &Observed, scope: &Scope) -> Plan {
    let _ = (desired, observed, scope);
    todo!()
}
