//! What is told of the signals of a line, and how fast they are to be answered, as parts of a configuration.

use gemba_core::admission::Tier;
use gemba_core::objective::{ObjectiveError, TierObjectives};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::millis;
use crate::receipts::{RECEIPTS_PER_S, Receipts, ReceiptsError};

/// Which signals of a line leave a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignalsTold {
    /// None.
    None,
    /// Each that failed or ran out of time.
    Failures,
    /// Each that did not succeed, also those that were refused, rejected or given up.
    Unsuccessful,
    /// Each.
    Each,
}

/// Which signals of a line leave a receipt, and how many. Can be changed while the plant runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptsSection {
    /// Which signals.
    pub of: SignalsTold,
    /// How many of them in a second, and as many failures; the others are counted.
    #[serde(default = "receipts_per_s")]
    #[schemars(range(min = 1, max = 1000))]
    pub per_s: u32,
}

const fn receipts_per_s() -> u32 {
    RECEIPTS_PER_S
}

impl ReceiptsSection {
    pub(super) fn rules(self) -> Result<Receipts, ReceiptsError> {
        let receipts = match self.of {
            SignalsTold::None => Receipts::none(),
            SignalsTold::Failures => Receipts::failures(),
            SignalsTold::Unsuccessful => Receipts::unsuccessful(),
            SignalsTold::Each => Receipts::each(),
        };
        receipts.per_s(self.per_s)
    }
}

/// Within what time 99 % of the signals of each tier are to be answered; 0 measures nothing. Can be changed while the
/// plant runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "a key says its unit")]
pub struct ObjectivesSection {
    /// Critical signals.
    #[schemars(range(max = 600_000))]
    pub critical_ms: u32,
    /// Normal ones.
    #[schemars(range(max = 600_000))]
    pub normal_ms: u32,
    /// Those of batches.
    #[schemars(range(max = 600_000))]
    pub batch_ms: u32,
}

impl Default for ObjectivesSection {
    fn default() -> Self {
        Self { critical_ms: 100, normal_ms: 500, batch_ms: 0 }
    }
}

impl ObjectivesSection {
    pub(super) fn rules(self) -> Result<TierObjectives, ObjectiveError> {
        let given = [
            (Tier::Critical, self.critical_ms),
            (Tier::Normal, self.normal_ms),
            (Tier::Batch, self.batch_ms),
        ];
        let with =
            |all: TierObjectives, (tier, ms): (Tier, u32)| all.with(tier, (0 < ms).then(|| millis(ms)));
        given.into_iter().try_fold(TierObjectives::default(), with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sets_is_as_the_code_has_it() {
        assert_eq!(ObjectivesSection::default().rules(), Ok(TierObjectives::default()));
        let receipts = |of| ReceiptsSection { of, per_s: receipts_per_s() }.rules();
        assert_eq!(receipts(SignalsTold::None), Ok(Receipts::default()));
        assert_eq!(receipts(SignalsTold::Failures), Ok(Receipts::failures()));
        assert_eq!(receipts(SignalsTold::Unsuccessful), Ok(Receipts::unsuccessful()));
        assert_eq!(receipts(SignalsTold::Each), Ok(Receipts::each()));
    }
}
