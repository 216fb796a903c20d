//! The way to a value: the keys of its tables and its places in lists.

use std::fmt;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    Key(String),
    Index(usize),
}

/// The way from the top of the configuration to a value, written `pools.payment.workers_min` or
/// `routes[0].url`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct KeyPath(pub(crate) Vec<Segment>);

impl KeyPath {
    pub(crate) fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.to_owned()))
    }

    pub(crate) fn with(&self, segment: Segment) -> Self {
        let mut longer = self.clone();
        longer.0.push(segment);
        longer
    }

    pub(crate) fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_last()?;
        Some(Self(parent.to_vec()))
    }

    pub(crate) fn starts_with(&self, beginning: &Self) -> bool {
        self.0.starts_with(&beginning.0)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) => {
                    let dot = if place == 0 { "" } else { "." };
                    write!(f, "{dot}{}", shown_key(key))?;
                }
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A key as TOML wants it: bare if it can be, in quotes otherwise.
pub(crate) fn shown_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { quoted(key) }
}

/// A text as a TOML string on one line.
pub(crate) fn quoted(text: &str) -> String {
    // JSON escapes all that TOML does, but for one character.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

/// The path on the way down: kept on the stack, so that looking at a sound value costs nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trail<'a> {
    Top,
    Key(&'a Trail<'a>, &'a str),
    Index(&'a Trail<'a>, usize),
}

impl Trail<'_> {
    pub(crate) fn path(&self) -> KeyPath {
        match self {
            Self::Top => KeyPath::default(),
            Self::Key(parent, key) => parent.path().key(key),
            Self::Index(parent, index) => parent.path().with(Segment::Index(*index)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_it_would_be_written() {
        let path = KeyPath::default().key("routes").with(Segment::Index(2)).key("to whom");
        assert_eq!(path.to_string(), "routes[2].\"to whom\"");
        assert_eq!(KeyPath::default().to_string(), "");
    }
}
