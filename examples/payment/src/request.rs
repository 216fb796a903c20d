//! What a customer asks for, checked field by field so that every mistake is reported at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::SerializeStruct;
use serde_json::{Map, Value};

use crate::country::Country;
use crate::currency::Currency;
use crate::json;
use crate::money::{AMOUNT_MINOR_MAX, Money};
use crate::payment::Token;
use crate::problem::{FieldError, Kind, Problem};

/// The longest name of a customer, a merchant or a payment method, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// How many pairs of metadata a payment may carry.
pub const METADATA_PAIRS_MAX: usize = 20;

/// The longest name in metadata, in bytes.
pub const METADATA_NAME_BYTES_MAX: usize = 40;

/// The longest value in metadata, in bytes.
pub const METADATA_VALUE_BYTES_MAX: usize = 500;

/// The fields of a request, in the order they are reported.
const FIELDS: [&str; 7] =
    ["amount_minor", "currency", "customer", "payment_method", "merchant", "country", "metadata"];

/// A payment somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRequest {
    /// How much.
    pub money: Money,
    /// Who pays.
    pub customer: Arc<str>,
    /// With which card.
    pub token: Token,
    /// Whom the money is for.
    pub merchant: Option<Arc<str>>,
    /// Where the customer is, if the caller knows.
    pub country: Option<Country>,
    /// Whatever the caller wants to find again.
    pub metadata: BTreeMap<String, String>,
}

impl PaymentRequest {
    /// Reads the body of a request.
    ///
    /// # Errors
    ///
    /// [`Kind::MalformedBody`] if it is not a JSON object, otherwise [`Kind::InvalidRequest`] with every
    /// field that cannot be accepted.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        match json::parse(body) {
            Ok(Value::Object(object)) => Self::check(&object).map_err(Problem::fields),
            Ok(_) => Err(Problem::new(Kind::MalformedBody, "send one JSON object")),
            Err(error) => Err(Problem::new(Kind::MalformedBody, format!("send one JSON object: {error}"))),
        }
    }

    fn check(object: &Map<String, Value>) -> Result<Self, Vec<FieldError>> {
        let mut wrong = Wrong(Vec::new());
        let amount = wrong.note("amount_minor", amount(object.get("amount_minor")));
        let currency = wrong.note("currency", currency(object.get("currency")));
        let customer = wrong.note("customer", name(object.get("customer")));
        let token = wrong.note("payment_method", name(object.get("payment_method")));
        let merchant = wrong.note("merchant", optional(object.get("merchant"), |value| name(Some(value))));
        let country = wrong.note("country", optional(object.get("country"), country));
        let metadata = metadata(object.get("metadata"), &mut wrong);
        for field in object.keys().filter(|field| !FIELDS.contains(&field.as_str())) {
            wrong
                .0
                .push(FieldError::new(shortened(field), format!("is not known; use {}", FIELDS.join(", "))));
        }
        let (Some(amount), Some(currency), Some(customer), Some(token), Some(merchant), Some(country), true) =
            (amount, currency, customer, token, merchant, country, wrong.0.is_empty())
        else {
            return Err(wrong.0);
        };
        let money = Money::new(amount, currency).expect("the amount was checked against the limits of money");
        Ok(Self { money, customer, token: Token::new(&token), merchant, country, metadata })
    }
}

impl Serialize for PaymentRequest {
    /// The canonical form a fingerprint is made of.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("PaymentRequest", FIELDS.len())?;
        fields.serialize_field("amount_minor", &self.money.minor())?;
        fields.serialize_field("currency", &self.money.currency())?;
        fields.serialize_field("customer", &*self.customer)?;
        fields.serialize_field("payment_method", self.token.reveal())?;
        fields.serialize_field("merchant", &self.merchant.as_deref())?;
        // Left out where it is not said, as before there was one: a key used then fits the same request now.
        match &self.country {
            Some(country) => fields.serialize_field("country", country)?,
            None => fields.skip_field("country")?,
        }
        fields.serialize_field("metadata", &self.metadata)?;
        fields.end()
    }
}

/// The mistakes found so far.
struct Wrong(Vec<FieldError>);

impl Wrong {
    fn note<T>(&mut self, field: &str, checked: Result<T, String>) -> Option<T> {
        checked.map_err(|detail| self.0.push(FieldError::new(field, detail))).ok()
    }
}

fn amount(value: Option<&Value>) -> Result<i64, String> {
    let within = format!("must be an integer from 1 to {AMOUNT_MINOR_MAX}, in minor units");
    match value {
        None => Err(format!("is missing; it {within}")),
        Some(Value::Number(number)) => {
            number.as_i64().filter(|minor| (1..=AMOUNT_MINOR_MAX).contains(minor)).ok_or(within)
        }
        Some(Value::String(_)) => Err(format!("is a string; it {within}")),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => Err(within),
    }
}

fn currency(value: Option<&Value>) -> Result<Currency, String> {
    let text = value.ok_or("is missing; give an ISO 4217 code such as \"EUR\"")?;
    text.as_str()
        .and_then(Currency::from_code)
        .ok_or_else(|| "must be an active ISO 4217 code in capitals, such as \"EUR\"".to_owned())
}

fn country(value: &Value) -> Result<Country, String> {
    let known = value.as_str().and_then(Country::from_code);
    known.ok_or_else(|| "must be an assigned ISO 3166-1 alpha-2 code in capitals, such as \"DE\"".to_owned())
}

fn name(value: Option<&Value>) -> Result<Arc<str>, String> {
    let within = format!("must be a string of 1 to {NAME_BYTES_MAX} bytes without control characters");
    let Some(value) = value else { return Err(format!("is missing; it {within}")) };
    match value.as_str() {
        Some(text) if is_text(text, NAME_BYTES_MAX) && !text.is_empty() => Ok(text.into()),
        Some(_) | None => Err(within),
    }
}

fn optional<T>(
    value: Option<&Value>,
    check: impl FnOnce(&Value) -> Result<T, String>,
) -> Result<Option<T>, String> {
    value.filter(|value| !value.is_null()).map(check).transpose()
}

fn metadata(value: Option<&Value>, wrong: &mut Wrong) -> BTreeMap<String, String> {
    let pairs = match value {
        None | Some(Value::Null) => return BTreeMap::new(),
        Some(Value::Object(pairs)) => pairs,
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            wrong.0.push(FieldError::new("metadata", "must be an object of strings"));
            return BTreeMap::new();
        }
    };
    if METADATA_PAIRS_MAX < pairs.len() {
        let detail = format!("has {} pairs; {METADATA_PAIRS_MAX} is the limit", pairs.len());
        wrong.0.push(FieldError::new("metadata", detail));
        return BTreeMap::new();
    }
    let mut accepted = BTreeMap::new();
    for (name, value) in pairs {
        match value.as_str() {
            Some(text)
                if is_text(text, METADATA_VALUE_BYTES_MAX)
                    && !name.is_empty()
                    && is_text(name, METADATA_NAME_BYTES_MAX) =>
            {
                accepted.insert(name.clone(), text.to_owned());
            }
            Some(_) | None => wrong.0.push(FieldError::new(
                format!("metadata.{}", shortened(name)),
                format!(
                    "must be a string of at most {METADATA_VALUE_BYTES_MAX} bytes under a name of 1 to \
                     {METADATA_NAME_BYTES_MAX} bytes, both without control characters"
                ),
            )),
        }
    }
    accepted
}

fn is_text(text: &str, bytes_max: usize) -> bool {
    text.len() <= bytes_max && !text.chars().any(char::is_control)
}

/// The start of a name that is not ours, so that an answer never grows with the mistake in a request.
fn shortened(name: &str) -> String {
    name.chars().take(METADATA_NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong_fields(body: &Value) -> Vec<String> {
        let problem = PaymentRequest::parse(body.to_string().as_bytes()).unwrap_err();
        assert_eq!(problem.kind(), Kind::InvalidRequest, "{body}");
        let errors = problem.to_json()["errors"].as_array().unwrap().clone();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }

    fn sound() -> Value {
        json!({"amount_minor": 1999, "currency": "EUR", "customer": "c-1", "payment_method": "tok_ok"})
    }

    fn with(field: &str, value: Value) -> Value {
        let mut body = sound();
        body[field] = value;
        body
    }

    #[test]
    fn a_sound_request_is_read() {
        let body = with("metadata", json!({"order": "17"}));
        let request = PaymentRequest::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(request.money.to_string(), "19.99 EUR");
        assert_eq!((&*request.customer, request.token.reveal()), ("c-1", "tok_ok"));
        assert_eq!((request.merchant, request.metadata["order"].as_str()), (None, "17"));
    }

    #[test]
    fn every_wrong_field_is_reported_at_once() {
        let body =
            json!({"amount_minor": 1.5, "currency": "XXX", "customer": 7, "colour": "red", "metadata": []});
        let fields = ["amount_minor", "currency", "customer", "payment_method", "metadata", "colour"];
        assert_eq!(wrong_fields(&body), fields);
        assert_eq!(wrong_fields(&json!({})), ["amount_minor", "currency", "customer", "payment_method"]);
    }

    #[test]
    fn an_answer_does_not_grow_with_the_mistakes() {
        let mut body = sound();
        for n in 0..5_000 {
            body[format!("field{n}")] = json!(n);
        }
        let problem = PaymentRequest::parse(body.to_string().as_bytes()).unwrap_err().to_json();
        assert_eq!(problem["errors"].as_array().unwrap().len(), 20);
        assert!(problem["detail"].as_str().unwrap().contains(" and 4980 more "), "{problem}");
        assert!(problem.to_string().len() < 16 * 1024);
    }

    #[test]
    fn an_amount_is_an_integer_within_the_limits() {
        for amount in [
            json!(0),
            json!(-1),
            json!(1.0),
            json!(-0.0),
            json!("1999"),
            json!(AMOUNT_MINOR_MAX + 1),
            json!(u64::MAX),
            json!(null),
            json!([1]),
        ] {
            assert_eq!(wrong_fields(&with("amount_minor", amount.clone())), ["amount_minor"], "{amount}");
        }
        for amount in [1, AMOUNT_MINOR_MAX] {
            let body = with("amount_minor", json!(amount)).to_string();
            assert!(PaymentRequest::parse(body.as_bytes()).is_ok());
        }
    }

    #[test]
    fn a_country_may_be_said_and_is_checked_then() {
        let read =
            |value: Value| PaymentRequest::parse(with("country", value).to_string().as_bytes()).unwrap();
        assert_eq!(read(json!("DE")).country, Country::from_code("DE"));
        assert_eq!(read(json!(null)).country, None);
        for wrong in [json!("de"), json!("UK"), json!("DEU"), json!(""), json!(49)] {
            assert_eq!(wrong_fields(&with("country", wrong.clone())), ["country"], "{wrong}");
        }
        let canonical = |request: &PaymentRequest| serde_json::to_string(request).unwrap();
        assert!(canonical(&read(json!("DE"))).contains(r#""country":"DE""#));
        assert!(!canonical(&read(json!(null))).contains("country"), "its fingerprint is the one of old");
    }

    #[test]
    fn text_has_limits_and_no_control_characters() {
        let longest = "x".repeat(NAME_BYTES_MAX);
        assert!(PaymentRequest::parse(with("merchant", json!(longest)).to_string().as_bytes()).is_ok());
        for text in [String::new(), "a\nb".to_owned(), "x".repeat(NAME_BYTES_MAX + 1)] {
            assert_eq!(wrong_fields(&with("customer", json!(text))), ["customer"]);
        }
    }

    #[test]
    fn metadata_is_bounded_in_pairs_names_and_values() {
        let pairs = |count: usize| -> Map<String, Value> {
            (0..count).map(|n| (n.to_string(), json!("x"))).collect()
        };
        let fits = with("metadata", pairs(METADATA_PAIRS_MAX).into()).to_string();
        assert!(PaymentRequest::parse(fits.as_bytes()).is_ok());
        assert_eq!(wrong_fields(&with("metadata", pairs(METADATA_PAIRS_MAX + 1).into())), ["metadata"]);
        assert_eq!(wrong_fields(&with("metadata", json!({"a": 1}))), ["metadata.a"]);
        let long = "x".repeat(METADATA_VALUE_BYTES_MAX + 1);
        assert_eq!(wrong_fields(&with("metadata", json!({"a": long}))), ["metadata.a"]);
    }

    #[test]
    fn what_is_not_an_object_is_malformed() {
        for body in ["", "[]", "\"a\"", "{\"amount_minor\": 1, \"amount_minor\": 2}", "{"] {
            assert_eq!(
                PaymentRequest::parse(body.as_bytes()).unwrap_err().kind(),
                Kind::MalformedBody,
                "{body}"
            );
        }
    }
}
