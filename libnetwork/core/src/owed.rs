//! What is not as it should be though no command and no change asks for it any more: it is tried again soon.

use std::collections::BTreeSet;

use libnetwork_model::SandboxId;

#[derive(Debug, Default)]
pub(crate) struct Owed {
    /// Something of the kernel's or a resolver. Which, the look at everything finds.
    pub(crate) look: bool,
    /// Uplinks, bridges, or what the mapper has beyond what it should have. It cannot be looked at: it is told all then.
    pub(crate) ways: bool,
    /// Whose ports are not what they should be, for the same reason.
    pub(crate) ports: BTreeSet<SandboxId>,
}

impl Owed {
    pub(crate) fn is_any(&self) -> bool {
        self.look || self.is_to_mapper()
    }

    /// Nothing that would have to be looked for, and nothing of everybody's.
    pub(crate) fn is_ports_alone(&self) -> bool {
        !self.look && !self.ways && !self.ports.is_empty()
    }

    pub(crate) fn is_to_mapper(&self) -> bool {
        self.ways || !self.ports.is_empty()
    }
}
