//! A payment as it is recorded, and the states it moves through.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::country::Country;
use crate::money::Money;

/// The number of a payment: a UUIDv7, so that ids sort by the time they were given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaymentId(Uuid);

impl PaymentId {
    /// A new number.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for PaymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for PaymentId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

impl Serialize for PaymentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A stand-in for a card, as the gateway gave it out. It is never printed.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(Arc<str>);

impl Token {
    /// The token with this text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, for the gateway and the record only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It is on the disk, and from now on a charge may leave the house.
    Authorising,
    /// The gateway may have charged or not; the reconciler owns it.
    Unknown,
    /// The gateway charged.
    Captured,
    /// The gateway refused; nothing was charged.
    Declined,
    /// A policy refused; nothing was sent.
    RejectedByPolicy,
    /// It is proven that nothing was sent: the line or the connection refused.
    Failed,
}

impl State {
    const ALL: [Self; 6] = [
        Self::Authorising,
        Self::Unknown,
        Self::Captured,
        Self::Declined,
        Self::RejectedByPolicy,
        Self::Failed,
    ];

    /// The word in the record and in the audit trail.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Authorising => "authorising",
            Self::Unknown => "unknown",
            Self::Captured => "captured",
            Self::Declined => "declined",
            Self::RejectedByPolicy => "rejected_by_policy",
            Self::Failed => "failed",
        }
    }

    /// The state with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    /// What a customer is told: an outcome, or that it is being worked on.
    pub const fn status(self) -> &'static str {
        match self {
            Self::Authorising | Self::Unknown => "processing",
            Self::Captured | Self::Declined | Self::RejectedByPolicy | Self::Failed => self.word(),
        }
    }

    /// Whether a payment may move from here to `next`.
    ///
    /// What may have been sent is never called failed or rejected, and an outcome is for ever.
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Authorising => !matches!(next, Self::Authorising),
            Self::Unknown => matches!(next, Self::Captured | Self::Declined),
            Self::Captured | Self::Declined | Self::RejectedByPolicy | Self::Failed => false,
        }
    }
}

/// A payment as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Its number.
    pub id: PaymentId,
    /// The idempotency key it was asked for with.
    pub key: Arc<str>,
    /// Whom the money is for, if the caller said.
    pub merchant: Option<Arc<str>>,
    /// Who pays.
    pub customer: Arc<str>,
    /// Where the customer is, if the caller said.
    pub country: Option<Country>,
    /// How much.
    pub money: Money,
    /// With which card.
    pub token: Token,
    /// Whatever the caller wants to find again.
    pub metadata: BTreeMap<String, String>,
    /// Where it stands.
    pub state: State,
    /// How often it moved; a change names the version it is based on.
    pub version: i64,
    /// What the gateway knows it by: the same for every attempt to charge it.
    pub reference: Arc<str>,
    /// The gateway's number of the charge.
    pub gateway_charge: Option<i64>,
    /// Why the gateway refused.
    pub decline_code: Option<Arc<str>>,
    /// When it was recorded, in milliseconds since 1970.
    pub created_unix_ms: i64,
    /// When it moved last, in milliseconds since 1970.
    pub updated_unix_ms: i64,
}

impl Payment {
    /// Where it is found.
    pub fn location(&self) -> String {
        location(self.id)
    }

    /// What its customer may see of it.
    pub fn view(&self) -> Value {
        json!({
            "id": self.id,
            "status": self.state.status(),
            "amount_minor": self.money.minor(),
            "currency": self.money.currency(),
            "customer": self.customer,
            "merchant": self.merchant,
            "country": self.country,
            "metadata": self.metadata,
            "decline_code": self.decline_code,
            "created_unix_ms": self.created_unix_ms,
            "updated_unix_ms": self.updated_unix_ms,
        })
    }
}

/// Where the payment with this number is found.
pub fn location(id: PaymentId) -> String {
    format!("/v1/payments/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_sent_is_never_called_failed_and_an_outcome_is_for_ever() {
        for from in State::ALL {
            assert_eq!(State::from_word(from.word()), Some(from));
            for to in State::ALL {
                let expected = match from {
                    State::Authorising => to != State::Authorising,
                    State::Unknown => to == State::Captured || to == State::Declined,
                    State::Captured | State::Declined | State::RejectedByPolicy | State::Failed => false,
                };
                assert_eq!(from.may_become(to), expected, "{from:?} → {to:?}");
            }
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        assert_eq!(format!("{:?}", Token::new("tok_secret")), "Token(…)");
    }
}
