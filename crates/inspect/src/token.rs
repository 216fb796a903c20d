//! The bearer token that every change asks for.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use uuid::Uuid;

/// The shortest token, in bytes: shorter ones can be guessed.
pub const TOKEN_BYTES_MIN: usize = 16;

/// Why a text is not a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is shorter than [`TOKEN_BYTES_MIN`].
    #[error(
        "a token of {bytes} characters can be guessed; use at least {TOKEN_BYTES_MIN} visible ASCII characters"
    )]
    TooShort {
        /// How long it is.
        bytes: usize,
    },
    /// It contains a space, a control character or something outside ASCII, which a header cannot carry.
    #[error("character {position} of the token is not a visible ASCII character; a header cannot carry it")]
    Character {
        /// Where, counted from 1.
        position: usize,
    },
}

/// A bearer token. Whoever holds it may kill actors and stop lines.
///
/// `Debug` does not show it; [`reveal`](Self::reveal) does.
///
/// # Examples
///
/// ```
/// use gemba_inspect::Token;
///
/// assert!(Token::new("hunter2").is_err());
/// assert!(Token::new("correct-horse-battery").is_ok());
/// assert_eq!(Token::generate().reveal().len(), 32);
/// ```
#[derive(Clone)]
pub struct Token(Arc<str>);

impl Token {
    /// A new token of 122 random bits, written as 32 hexadecimal digits.
    pub fn generate() -> Self {
        Self(Uuid::new_v4().simple().to_string().into())
    }

    /// Takes a token from a configuration.
    ///
    /// # Errors
    ///
    /// [`TokenError`] if it is short enough to guess or cannot stand in a header.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        if let Some(at) = text.chars().position(|c| !c.is_ascii_graphic()) {
            return Err(TokenError::Character { position: at + 1 });
        }
        if text.len() < TOKEN_BYTES_MIN {
            return Err(TokenError::TooShort { bytes: text.len() });
        }
        Ok(Self(text.into()))
    }

    /// The secret itself, to print it once or to send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether an `Authorization` header carries this token, in a time that does not tell how much of
    /// it was right.
    pub(crate) fn opens(&self, authorization: &[u8]) -> bool {
        let Some((scheme, offered)) = authorization.split_at_checked("Bearer ".len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(offered.ct_eq(self.0.as_bytes()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl std::str::FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_and_visible() {
        let shortest = "x".repeat(TOKEN_BYTES_MIN);
        assert!(Token::new(&shortest).is_ok());
        assert_eq!(
            Token::new(&shortest[1..]).unwrap_err(),
            TokenError::TooShort { bytes: TOKEN_BYTES_MIN - 1 }
        );
        assert_eq!(Token::new("with a space in it").unwrap_err(), TokenError::Character { position: 5 });
        assert_eq!(Token::new("sixteen-letters-é").unwrap_err(), TokenError::Character { position: 17 });
    }

    #[test]
    fn only_the_whole_token_after_its_scheme_opens() {
        let token = Token::new("correct-horse-battery").unwrap();
        for (header, opens) in [
            ("Bearer correct-horse-battery", true),
            ("bearer correct-horse-battery", true),
            ("Bearer correct-horse-batter", false),
            ("Bearer correct-horse-batteryy", false),
            ("Bearer  correct-horse-battery", false),
            ("Basic correct-horse-battery", false),
            ("correct-horse-battery", false),
            ("Bearer ", false),
            ("Bear", false),
            ("", false),
        ] {
            assert_eq!(token.opens(header.as_bytes()), opens, "{header:?}");
        }
    }

    #[test]
    fn debug_keeps_the_secret_and_two_tokens_differ() {
        let token = Token::generate();
        assert!(!format!("{token:?}").contains(token.reveal()));
        assert_ne!(token.reveal(), Token::generate().reveal());
    }
}
