//! Names and paths: what lines, pools, breakers and actors are called.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name, and the longest segment of a path, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name is empty.
    #[error("a name is empty; give it 1 to {NAME_BYTES_MAX} letters, digits or any of `:_.-`")]
    Empty,
    /// The name is longer than [`NAME_BYTES_MAX`] bytes.
    #[error("name '{name}' has {bytes} bytes; {NAME_BYTES_MAX} is the limit")]
    TooLong {
        /// The refused name.
        name: Box<str>,
        /// How long it is.
        bytes: usize,
    },
    /// The name contains a character that cannot stand in a path or a label.
    #[error("name '{name}' contains '{character}'; use letters, digits or any of `:_.-`")]
    Character {
        /// The refused name.
        name: Box<str>,
        /// The first character that is not allowed.
        character: char,
    },
    /// The name is `.` or `..`, which a URL does not carry as it is.
    #[error("'{name}' is no name: a URL would lose it; use a letter or a digit as well")]
    Dots {
        /// The refused name.
        name: Box<str>,
    },
    /// A path does not begin with a slash.
    #[error("path '{path}' is not absolute; write it as the tree shows it, `/plant/board`")]
    NotAbsolute {
        /// The refused path.
        path: Box<str>,
    },
}

/// The name of a line, a pool, a breaker or a child: a few letters from a closed set.
///
/// Cloning is cheap: the text is shared.
///
/// # Units and limits
///
/// 1 to [`NAME_BYTES_MAX`] ASCII letters, digits or any of `:_.-`, so that a name can stand in a path,
/// a metric label and a URL as it is.
///
/// # Examples
///
/// ```
/// use gemba_core::name::Name;
///
/// let name: Name = "pool:payment".parse()?;
/// assert_eq!(name.as_str(), "pool:payment");
/// assert!("two words".parse::<Name>().is_err());
/// # Ok::<(), gemba_core::name::NameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// Checks `text` and makes it a name.
    ///
    /// # Errors
    ///
    /// [`NameError`] says which character or length is wrong.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if NAME_BYTES_MAX < text.len() {
            return Err(NameError::TooLong { name: text.into(), bytes: text.len() });
        }
        if text == "." || text == ".." {
            return Err(NameError::Dots { name: text.into() });
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || ":_.-".contains(*c))) {
            Some(character) => Err(NameError::Character { name: text.into(), character }),
            None => Ok(Self(text.into())),
        }
    }

    /// The name of one of many, `1`, `2`, `3`.
    pub fn numbered(number: u64) -> Self {
        Self(number.to_string().into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0)
    }
}

/// Where an actor stands in the tree: `/plant/pools/payment/workers/3`.
///
/// A path names a place, not a process: it survives restarts. Which process holds the place is its
/// [`Incarnation`](crate::exit::Incarnation).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ActorPath(Arc<str>);

impl ActorPath {
    /// The node's root supervisor, `/`.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Checks `text` and makes it a path.
    ///
    /// # Errors
    ///
    /// [`NameError::NotAbsolute`] without a leading slash, otherwise what is wrong with a segment.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(NameError::NotAbsolute { path: text.into() });
        };
        if !rest.is_empty() {
            for segment in rest.split('/') {
                Name::new(segment)?;
            }
        }
        Ok(Self(text.into()))
    }

    /// The place of the child called `name`.
    pub fn child(&self, name: &Name) -> Self {
        if self.is_root() {
            Self(format!("/{name}").into())
        } else {
            Self(format!("{}/{name}", self.0).into())
        }
    }

    /// The supervisor's place, or `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.rfind('/').expect("a path begins with a slash");
        Some(if end == 0 { Self::root() } else { Self(self.0[..end].into()) })
    }

    /// The last segment: `3` of `/plant/pools/payment/workers/3`, `/` for the root.
    pub fn name(&self) -> &str {
        if self.is_root() {
            "/"
        } else {
            self.0.rsplit('/').next().expect("a split yields at least one part")
        }
    }

    /// Whether this is the node's root supervisor.
    pub fn is_root(&self) -> bool {
        &*self.0 == "/"
    }

    /// Whether this place is `ancestor` or below it.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || self.0.strip_prefix(&*ancestor.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ActorPath {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for ActorPath {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(&text)
    }
}

impl From<ActorPath> for String {
    fn from(path: ActorPath) -> Self {
        path.0.as_ref().to_owned()
    }
}

impl Borrow<str> for ActorPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_refused_for_one_stated_reason() {
        for (text, error) in [
            ("", NameError::Empty),
            ("..", NameError::Dots { name: "..".into() }),
            ("a b", NameError::Character { name: "a b".into(), character: ' ' }),
            ("a/b", NameError::Character { name: "a/b".into(), character: '/' }),
        ] {
            assert_eq!(Name::new(text), Err(error));
        }
        assert!(Name::new(&"x".repeat(NAME_BYTES_MAX)).is_ok());
        assert!(Name::new(&"x".repeat(NAME_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn a_path_knows_its_family() {
        let board = ActorPath::new("/plant/board").unwrap();
        assert_eq!(board.name(), "board");
        assert_eq!(board.parent().unwrap().as_str(), "/plant");
        assert_eq!(board.parent().unwrap().parent(), Some(ActorPath::root()));
        assert_eq!(ActorPath::root().parent(), None);
        assert_eq!(ActorPath::root().child(&Name::new("plant").unwrap()).as_str(), "/plant");
        assert!(board.is_within(&ActorPath::new("/plant").unwrap()));
        assert!(board.is_within(&ActorPath::root()));
        assert!(!ActorPath::new("/plants").unwrap().is_within(&ActorPath::new("/plant").unwrap()));
    }

    #[test]
    fn a_path_is_absolute_and_has_no_empty_segment() {
        assert!(ActorPath::new("plant").is_err());
        assert!(ActorPath::new("/plant//board").is_err());
        assert!(ActorPath::new("/plant/").is_err());
    }
}
