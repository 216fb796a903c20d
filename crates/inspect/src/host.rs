//! A name under which a node may be asked.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name of the DNS, in characters.
const CHARS_MAX: usize = 253;

/// Why a text is no name of a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is no name of a host; give letters, digits, '-', '_' and '.' without scheme and port, as node1.example"
)]
pub struct HostNameError {
    text: Box<str>,
}

/// A name under which a node may be asked, besides IP addresses and `localhost`.
///
/// A page of a foreign site can point a name of its own at a node (DNS rebinding); so a node answers for the names it
/// was told, and no others.
///
/// # Units and limits
///
/// At most 253 letters, digits, `-`, `_` and `.`, without scheme and port; upper and lower case are the same.
///
/// # Examples
///
/// ```
/// use gemba_inspect::HostName;
///
/// assert!(HostName::new("node1.example").is_ok());
/// assert!(HostName::new("http://node1.example:4040").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(Arc<str>);

impl HostName {
    /// Takes a name from a configuration.
    ///
    /// # Errors
    ///
    /// [`HostNameError`] if no request could carry it as the name of its host.
    pub fn new(text: &str) -> Result<Self, HostNameError> {
        let is_label = |label: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            !label.is_empty() && label.chars().all(known)
        };
        if text.len() <= CHARS_MAX && text.split('.').all(is_label) {
            Ok(Self(text.into()))
        } else {
            Err(HostNameError { text: text.into() })
        }
    }

    /// Whether a request that names this host means this one.
    pub(crate) fn is(&self, host: &str) -> bool {
        self.0.eq_ignore_ascii_case(host)
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, HostNameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for HostName {
    type Error = HostNameError;

    fn try_from(text: String) -> Result<Self, HostNameError> {
        Self::new(&text)
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_a_request_can_carry() {
        let longest = "a.".repeat(126) + "a";
        for (text, sound) in [
            ("node1", true),
            ("Node-1.example", true),
            ("payment_node.svc.cluster.local", true),
            (&longest, true),
            (&format!("{longest}a"), false),
            ("", false),
            (".", false),
            ("node1.", false),
            ("node1..example", false),
            ("node1:4040", false),
            ("http://node1", false),
            ("two words", false),
            ("[::1]", false),
            ("näher.example", false),
        ] {
            assert_eq!(HostName::new(text).is_ok(), sound, "{text:?}");
        }
    }
}
