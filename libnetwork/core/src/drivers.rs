//! The drivers of this daemon, by name.

use std::collections::BTreeMap;

use libnetwork_model::Network;
use libnetwork_plan::Driver;

/// The name of the driver whose one network is the host's own namespace.
pub const HOST: &str = "host";
/// The name of the driver whose one network is none at all (Docker's name for it).
pub const NONE: &str = "null";

/// Which driver compiles which networks.
#[derive(Default)]
pub struct Drivers(BTreeMap<String, Box<dyn Driver>>);

impl Drivers {
    pub fn with(mut self, name: &str, driver: impl Driver + 'static) -> Self {
        self.0.insert(name.to_owned(), Box::new(driver));
        self
    }

    pub fn get(&self, name: &str) -> Option<&dyn Driver> {
        self.0.get(name).map(Box::as_ref)
    }

    /// The driver of a network. None for one that only holds options, and for one that a build with another driver made:
    /// it is kept and compiles to nothing.
    pub fn of(&self, network: &Network) -> Option<&dyn Driver> {
        if network.config_only { None } else { self.get(&network.driver) }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &dyn Driver)> {
        self.0.iter().map(|(name, driver)| (name.as_str(), driver.as_ref()))
    }
}
