use crate::{Key, Object};

/// One change to the kernel.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    Create {
        key: Key,
        object: Object,
    },
    /// In place: what hangs on the object stays.
    Update {
        key: Key,
        from: Object,
        object: Object,
    },
    /// What is removed, as observed. What hangs on it goes with it and has no operation of its own.
    Delete {
        key: Key,
        object: Object,
    },
}

impl Operation {
    pub fn key(&self) -> &Key {
        match self {
            Operation::Create { key, .. } | Operation::Update { key, .. } | Operation::Delete { key, .. } => {
                key
            }
        }
    }

    /// What it does, as an infinitive.
    pub fn verb(&self) -> &'static str {
        match self {
            Operation::Create { .. } => "create",
            Operation::Update { .. } => "update",
            Operation::Delete { .. } => "delete",
        }
    }
}

/// What to do, in order: deletions first, then creations and updates.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    pub operations: Vec<Operation>,
    /// Objects of someone else's under a key that we want. They stay; ours, and what hangs on it, is not made.
    pub foreign: Vec<(Key, Object)>,
    /// What is not made because of them, each with the key that someone else has.
    pub blocked: Vec<(Key, Key)>,
}

impl Plan {
    /// Nothing to do and nothing in the way.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty() && self.foreign.is_empty()
    }
}
