//! How slow this machine is, beside the one on which targets in nanoseconds and in signals a second were set.

use std::hint::black_box;

use tokio::sync::Semaphore;

use crate::closed::nanos;
use crate::finding::median;

/// What a permit of tokio's semaphore takes there, with nobody else at it: PERFORMANCE.md, "Flow control".
const PERMIT_NS: f64 = 23.0;

/// Permits of one look: some 10 ms.
const PERMITS: u32 = 300_000;

/// Looks at the machine while it is measured, because its pace changes with what its neighbours do.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    permits_ns: Vec<f64>,
}

impl Pace {
    /// Looks once; an experiment does so in each of its repetitions.
    pub(crate) fn look(&mut self) {
        let semaphore = Semaphore::new(1);
        self.permits_ns.push(nanos(1, PERMITS, &|| drop(black_box(semaphore.try_acquire()))));
    }

    /// How many times as long everything takes here. A faster machine counts as that of the targets, so that none
    /// is ever stricter than it was set.
    pub(crate) fn slower(&self) -> f64 {
        if self.permits_ns.is_empty() { 1.0 } else { (median(self.permits_ns.clone()) / PERMIT_NS).max(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_slower_machine_moves_a_target() {
        let on = |permits_ns: &[f64]| Pace { permits_ns: permits_ns.to_vec() }.slower();
        let slower = [on(&[]), on(&[11.5]), on(&[40.0, 46.0, 90.0])];
        assert_eq!(slower.map(f64::to_bits), [1f64, 1.0, 2.0].map(f64::to_bits));
    }
}
