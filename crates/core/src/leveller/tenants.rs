//! How long the work of each tenant takes, of as many tenants as are told apart.

use std::collections::BTreeMap;
use std::time::Duration;

use super::service::Service;
use crate::queue::{NOBODY, Tenant};

/// Of how many tenants at least it is known; of the others the mean of all is taken.
pub(super) const TENANTS_MIN: usize = 1_000;

/// Two generations: those that were seen lately, and those that were before them. When the younger one is full, the
/// older one is forgotten, so that a tenant that comes again and again is known.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    young: BTreeMap<Tenant, Service>,
    old: BTreeMap<Tenant, Service>,
}

impl Tenants {
    pub(super) fn add(&mut self, tenant: Tenant, took: Duration, memory: u32) {
        if tenant == NOBODY {
            return;
        }
        if !self.young.contains_key(&tenant) {
            if TENANTS_MIN <= self.young.len() {
                self.old = std::mem::take(&mut self.young);
            }
            let known = self.old.remove(&tenant).unwrap_or_default();
            self.young.insert(tenant, known);
        }
        if let Some(service) = self.young.get_mut(&tenant) {
            service.add(took, memory);
        }
    }

    pub(super) fn mean(&self, tenant: Tenant) -> Option<f64> {
        if tenant == NOBODY {
            return None;
        }
        self.young.get(&tenant).or_else(|| self.old.get(&tenant))?.mean()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_that_comes_again_is_known_and_others_are_forgotten() {
        let mut tenants = Tenants::default();
        let ms = Duration::from_millis;
        tenants.add(NOBODY, ms(5), 64);
        assert_eq!(tenants.mean(NOBODY), None);
        for round in 0..10 {
            tenants.add(7, ms(40), 64);
            for other in 0..900 {
                tenants.add(1_000 + round * 900 + other, ms(1), 64);
            }
        }
        assert_eq!(tenants.mean(7), Some(40e6));
        assert_eq!(tenants.mean(1_000), None);
        assert!(tenants.young.len() + tenants.old.len() <= 2 * TENANTS_MIN);
    }
}
