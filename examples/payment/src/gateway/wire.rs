//! What travels between the service and the gateway.

use serde::{Deserialize, Serialize};

use crate::payment::Token;

/// A call for a charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChargeCall {
    /// What the caller knows it by; one reference is charged once.
    pub reference: String,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// In which currency.
    pub currency: String,
    /// With which card.
    pub token: Token,
}

/// How a charge ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The card was charged.
    Charged,
    /// It was not.
    Declined,
}

impl Outcome {
    /// The word on record.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Charged => "charged",
            Self::Declined => "declined",
        }
    }
}

/// A charge as it is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargeEntry {
    /// The gateway's number, growing.
    pub id: i64,
    /// What the caller knows it by.
    pub reference: String,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// In which currency.
    pub currency: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was declined.
    #[serde(default)]
    pub decline_code: Option<String>,
    /// When, in milliseconds since 1970.
    pub at_unix_ms: i64,
}

/// A page of the record, in the order of the ids.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChargePage {
    /// The entries.
    pub charges: Vec<ChargeEntry>,
    /// Ask for `after` this id to go on; `None` on the last page.
    pub next: Option<i64>,
}

/// What an auditor compares first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Charges made. More than `references` means that somebody was charged twice.
    pub charges: i64,
    /// Different references among them.
    pub references: i64,
    /// Charges declined.
    pub declined: i64,
    /// Calls that came, replays and failed ones included.
    pub attempts: i64,
}

/// Why the gateway did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The call cannot be a charge; nothing was done.
    Invalid,
    /// Nothing is on record under the reference.
    NotFound,
    /// The reference is on record for another amount, currency or card.
    ReferenceReused,
    /// The gateway has trouble; whether it charged is not said.
    Trouble,
}

/// The body of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why.
    pub error: RefusalKind,
    /// In words.
    #[serde(default)]
    pub detail: String,
}
