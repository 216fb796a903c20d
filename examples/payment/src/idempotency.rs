//! The key that makes a request repeatable, and the fingerprint that tells a repetition from another request.

use std::fmt;
use std::sync::Arc;

use axum::http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::problem::{Kind, Problem};
use crate::request::PaymentRequest;

/// The longest key, in characters.
pub const KEY_CHARS_MAX: usize = 255;

/// The header of the key.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The header of an answer that was given before.
pub(crate) const IDEMPOTENCY_REPLAYED: &str = "idempotency-replayed";

/// An idempotency key.
///
/// # Units and limits
///
/// 1 to [`KEY_CHARS_MAX`] visible ASCII characters. `"a"` and `a` are the same key: the draft of the IETF
/// quotes it, most clients do not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The key of a request.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(invalid("send exactly one Idempotency-Key header"));
        };
        value.to_str().ok().and_then(Self::parse).ok_or_else(|| {
            invalid("use 1 to 255 visible ASCII characters as Idempotency-Key, a UUID for example")
        })
    }

    /// The key in the text of a header, quoted or bare.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let key = match text.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"')?,
            None => text,
        };
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        (visible && (1..=KEY_CHARS_MAX).contains(&key.len())).then(|| Self(key.into()))
    }

    /// The key without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn invalid(detail: &str) -> Problem {
    Problem::new(Kind::IdempotencyKeyInvalid, detail)
}

/// The digest of what a request asks for: method, path and every field, whatever their order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a request to `path`.
    pub fn of(method: &str, path: &str, request: &PaymentRequest) -> Self {
        let fields = serde_json::to_vec(request).expect("a checked request has only text and numbers");
        let mut digest = Sha256::new();
        for part in [method.as_bytes(), path.as_bytes(), &fields] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self(digest.finalize().into())
    }

    /// The digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_and_has_a_limit() {
        let longest = "x".repeat(KEY_CHARS_MAX);
        for (text, key) in [
            ("a", Some("a")),
            ("\"a\"", Some("a")),
            (" 8e03978e-40d5-43dd-bc93-6894a57f9324 ", Some("8e03978e-40d5-43dd-bc93-6894a57f9324")),
            (longest.as_str(), Some(longest.as_str())),
            ("", None),
            ("\"\"", None),
            ("\"", None),
            ("\"a", None),
            ("a b", None),
            ("a\tb", None),
            ("a\"b", None),
            ("é", None),
        ] {
            assert_eq!(Key::parse(text).as_ref().map(Key::as_str), key, "{text}");
        }
        assert_eq!(Key::parse(&"x".repeat(KEY_CHARS_MAX + 1)), None);
    }

    #[test]
    fn a_fingerprint_follows_the_fields_and_not_their_order() {
        let parse = |text: &str| PaymentRequest::parse(text.as_bytes()).unwrap();
        let print = |request| Fingerprint::of("POST", "/v1/payments", request);
        let one = parse(
            r#"{"amount_minor":1,"currency":"EUR","customer":"c","payment_method":"t","metadata":{"a":"1","b":"2"}}"#,
        );
        let same = parse(
            r#"{"metadata":{"b":"2","a":"1"},"payment_method":"t","customer":"c","currency":"EUR","amount_minor":1}"#,
        );
        let other = parse(
            r#"{"amount_minor":2,"currency":"EUR","customer":"c","payment_method":"t","metadata":{"a":"1","b":"2"}}"#,
        );
        assert_eq!(print(&one), print(&same));
        assert_ne!(print(&one), print(&other));
        assert_ne!(print(&one), Fingerprint::of("POST", "/v1/refunds", &one));
    }
}
