//! Where the search for a free address begins.

use std::{collections::HashMap, net::IpAddr};

use libnetwork_model::{Change, Intent, Mutation, NetworkId};

/// For each network and family an address below which its subnet has none free. Derived and forgettable: without it the
/// search takes longer, and finds the same.
#[derive(Debug, Default)]
pub(crate) struct Hints(HashMap<(NetworkId, bool), IpAddr>);

impl Hints {
    pub(crate) fn get(&self, network: &NetworkId, ipv6: bool) -> Option<IpAddr> {
        self.0.get(&(network.clone(), ipv6)).copied()
    }

    /// The lowest free address of a network was this one, and it is taken.
    pub(crate) fn leased(&mut self, network: &NetworkId, address: IpAddr) {
        self.0.insert((network.clone(), address.is_ipv6()), address);
    }

    /// What a change on top of `before` sets free.
    pub(crate) fn follow(&mut self, before: &Intent, change: &Change) {
        for mutation in &change.0 {
            let endpoint = match mutation {
                Mutation::RemoveEndpoint(id) => before.endpoint(id),
                Mutation::PutEndpoint(endpoint) => before.endpoint(&endpoint.id),
                Mutation::PutNetwork(network) => {
                    self.forget(&network.id);
                    None
                }
                Mutation::RemoveNetwork(id) => {
                    self.forget(id);
                    None
                }
                Mutation::Release { network, address } => {
                    self.lower(network, *address);
                    None
                }
                // It may be another's than before.
                Mutation::Reserve(reservation) => {
                    self.lower(&reservation.network, reservation.address);
                    None
                }
                _ => None,
            };
            for (endpoint, address) in endpoint.iter().flat_map(|e| e.addresses().map(move |a| (e, a))) {
                self.lower(&endpoint.network, address);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn lower(&mut self, network: &NetworkId, address: IpAddr) {
        if let Some(hint) = self.0.get_mut(&(network.clone(), address.is_ipv6())) {
            *hint = address.min(*hint);
        }
    }

    fn forget(&mut self, network: &NetworkId) {
        self.0.remove(&(network.clone(), false));
        self.0.remove(&(network.clone(), true));
    }
}
