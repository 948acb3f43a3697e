//! What containers make of networks that others make and change.

use std::sync::Arc;

use crate::{Containers, Result, container::Live};

impl Containers {
    /// Keeps addresses again for containers that stand still and whose records name this network: a network that goes takes
    /// its reservations along, and one of its name is what those containers start on.
    pub async fn network_made(&self, id: &str, name: &str) {
        for container in self.inner.all() {
            let named = |live: &Live| {
                let networks = &live.config.networks;
                !live.state.has_process() && (networks.contains_key(name) || networks.contains_key(id))
            };
            if !container.read(named) {
                continue;
            }
            let _turn = container.turn().await;
            if container.read(|live| named(live) && !live.removed) {
                self.inner.reserve_addresses(&container, true).await;
            }
        }
    }

    /// Learns what has become of sandboxes that somebody else than their containers changed: what is published follows the
    /// settings of networks.
    pub async fn refresh_sandboxes(&self) -> Result<()> {
        let all = self.inner.all().into_iter();
        let known: Vec<_> = all.filter_map(|c| Some((c.read(|live| live.sandbox.clone())?, c))).collect();
        if known.is_empty() {
            return Ok(());
        }
        let mut all = self.inner.sandboxes().await?;
        for (known, container) in known {
            let Some(sandbox) = all.remove(&container.id).filter(|sandbox| *sandbox != *known) else {
                continue;
            };
            // One that its container changed meanwhile has been told of that, and of all before.
            container.change(|live| {
                if live.sandbox.as_ref().is_some_and(|now| Arc::ptr_eq(now, &known)) {
                    live.sandbox = Some(Arc::new(sandbox));
                }
            });
        }
        Ok(())
    }
}
