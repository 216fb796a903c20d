//! Which route is told from which light on.

use std::collections::BTreeMap;

use super::in_order;
use crate::light::Light;
use crate::name::Name;

/// Routes by the light from which on they are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes(BTreeMap<Name, Light>);

impl Routes {
    /// No routes: nobody is told anything.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Adds a route that is told of `light` and worse. Green tells of nothing: it counts as yellow.
    pub fn from(mut self, light: Light, route: Name) -> Self {
        self.0.insert(route, light.max(Light::Yellow));
        self
    }

    /// The routes of a light, in order.
    pub fn of(&self, light: Light) -> Vec<Name> {
        in_order(self.0.iter().filter(|(_, from)| **from <= light).map(|(name, _)| name.clone()))
    }
}
