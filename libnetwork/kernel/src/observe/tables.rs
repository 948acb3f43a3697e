//! What is in our nftables tables.

use std::collections::BTreeSet;

use libnetwork_plan::{Cause, KernelError, Key, Ns, Object, Owner, Table};

use super::{Look, at};
use crate::nft;

impl Look<'_> {
    /// All of our tables there, with what is in their sets.
    pub(super) fn rulesets(&mut self, ns: &Ns) -> Result<(), Cause> {
        let socket = self.spaces.nft(ns)?;
        for ruleset in nft::rulesets(socket, ns)? {
            for set in &ruleset.sets {
                for (element, verdict) in nft::set_elements(socket, &ruleset.table, set)? {
                    let (table, set) = (ruleset.table.clone(), set.name.clone());
                    let key = Key::SetElement { ns: ns.clone(), table, set, element };
                    self.observed.insert(key, (Owner::Ours, Object::SetElement(verdict)));
                }
            }
            let key = Key::Ruleset { ns: ns.clone(), table: ruleset.table.clone() };
            self.observed.insert(key, (Owner::Ours, Object::Ruleset(ruleset.into())));
        }
        self.spaces.tidy(ns);
        Ok(())
    }

    /// These tables and elements alone.
    pub(super) fn tables(&mut self, ns: &Ns, keys: &[&Key]) -> Result<(), KernelError> {
        if let Ns::Sandbox(id) = ns
            && !self.spaces.exists(id).map_err(at("look at", ns))?
        {
            return Ok(());
        }
        let socket = self.spaces.nft(ns).map_err(at("open", ns))?;
        let mut tables: BTreeSet<&Table> = BTreeSet::new();
        for key in keys {
            let error = |cause| KernelError { key: Some((*key).clone()), ..at("look at", ns)(cause) };
            match key {
                Key::Ruleset { table, .. } if tables.insert(table) => {
                    if let Some(ruleset) = nft::ruleset(socket, table).map_err(error)? {
                        let object = Object::Ruleset(ruleset.into());
                        self.observed.insert((*key).clone(), (Owner::Ours, object));
                    }
                }
                Key::SetElement { table, set, element, .. } => {
                    if let Some(verdict) = nft::element(socket, table, set, element).map_err(error)? {
                        self.observed.insert((*key).clone(), (Owner::Ours, Object::SetElement(verdict)));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
