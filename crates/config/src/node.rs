//! The configuration before it has a type: a tree of values, each with where it comes from.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::path::{KeyPath, Segment, quoted};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A place in a file.
    File {
        /// The name of the file, as it was given.
        name: Arc<str>,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
    },
    /// A variable of the environment.
    Environment {
        /// Its name.
        variable: Arc<str>,
    },
    /// A flag of the command line.
    Flag {
        /// The flag, with its dashes.
        flag: Arc<str>,
    },
    /// Nobody gave it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line, .. } => write!(f, "{name}:{line}"),
            Self::Environment { variable } => f.write_str(variable),
            Self::Flag { flag } => f.write_str(flag),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value, where it comes from, and what it replaced.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
    /// Its bytes in the file.
    pub(crate) span: Option<Range<usize>>,
    /// What it stands in the place of: the value as it was written, and where.
    pub(crate) replaced: Option<(String, Origin)>,
    /// It stands in for a value that is missing or wrong, so that the rest can be looked at.
    pub(crate) made_up: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Table(Vec<Entry>),
    List(Vec<Node>),
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    /// A text whose type nobody has said: it is read as what is asked for.
    Untyped(String),
    /// Whatever is asked for.
    Anything,
    /// Taken out of a list, whose other places keep their numbers.
    Gone,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) span: Option<Range<usize>>,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) const fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin, span: None, replaced: None, made_up: false }
    }

    /// Something to go on with.
    pub(crate) fn made_up(value: Value) -> Self {
        Self { made_up: true, ..Self::new(value, Origin::Default) }
    }

    /// The value as its author wrote it, short.
    pub(crate) fn shown(&self) -> String {
        match &self.value {
            Value::Table(_) => "a table".into(),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Text(text) | Value::Untyped(text) => quoted(text),
            Value::Anything | Value::Gone => "missing".into(),
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            Value::List(_)
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Untyped(_)
            | Value::Anything
            | Value::Gone => &[],
        }
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    fn child(&self, segment: &Segment) -> Option<&Self> {
        match (segment, &self.value) {
            (Segment::Key(key), Value::Table(_)) => self.entry(key).map(|entry| &entry.node),
            (Segment::Index(index), Value::List(items)) => items.get(*index),
            _ => None,
        }
    }

    fn child_mut(&mut self, segment: &Segment) -> Option<&mut Self> {
        match (segment, &mut self.value) {
            (Segment::Key(key), Value::Table(entries)) => {
                entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.node)
            }
            (Segment::Index(index), Value::List(items)) => items.get_mut(*index),
            _ => None,
        }
    }

    pub(crate) fn at(&self, path: &KeyPath) -> Option<&Self> {
        path.0.iter().try_fold(self, |node, segment| node.child(segment))
    }

    pub(crate) fn at_mut(&mut self, path: &KeyPath) -> Option<&mut Self> {
        path.0.iter().try_fold(self, |node, segment| node.child_mut(segment))
    }

    /// The longest part of `path` that leads to something, and what is there.
    pub(crate) fn deepest(&self, path: &KeyPath) -> (KeyPath, &Self) {
        let (mut at, mut node) = (KeyPath::default(), self);
        for segment in &path.0 {
            let Some(child) = node.child(segment) else { break };
            (at, node) = (at.with(segment.clone()), child);
        }
        (at, node)
    }

    /// The path here of one that counts only those entries of lists that were not taken out.
    pub(crate) fn with_gone(&self, path: &KeyPath) -> KeyPath {
        let (mut here, mut node) = (KeyPath::default(), Some(self));
        for segment in &path.0 {
            let segment = match (segment, node.map(|node| &node.value)) {
                (Segment::Index(index), Some(Value::List(items))) => {
                    let is_left = |(_, item): &(usize, &Self)| !matches!(item.value, Value::Gone);
                    let place = items.iter().enumerate().filter(is_left).nth(*index);
                    Segment::Index(place.map_or(*index, |(place, _)| place))
                }
                _ => segment.clone(),
            };
            node = node.and_then(|node| node.child(&segment));
            here.0.push(segment);
        }
        here
    }

    /// Makes it and all below it come from `origin`, which is no place of the file.
    pub(crate) fn come_from(&mut self, origin: &Origin) {
        (self.origin, self.span) = (origin.clone(), None);
        match &mut self.value {
            Value::Table(entries) => {
                for entry in entries {
                    entry.span = None;
                    entry.node.come_from(origin);
                }
            }
            Value::List(items) => {
                for item in items {
                    item.come_from(origin);
                }
            }
            Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Untyped(_)
            | Value::Anything
            | Value::Gone => {}
        }
    }

    /// Fills in what is not there; tables are filled in, all else is taken as a whole.
    pub(crate) fn put_under(&mut self, under: Self) {
        let (Value::Table(entries), Value::Table(below)) = (&mut self.value, under.value) else { return };
        for entry in below {
            match entries.iter_mut().find(|own| own.key == entry.key) {
                Some(own) => own.node.put_under(entry.node),
                None => entries.push(entry),
            }
        }
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, path: &KeyPath) {
        let (Some(parent), Some(last)) = (path.parent(), path.0.last()) else { return };
        let Some(parent) = self.at_mut(&parent) else { return };
        match (last, &mut parent.value) {
            (Segment::Key(key), Value::Table(entries)) => entries.retain(|entry| entry.key != *key),
            (Segment::Index(index), Value::List(items)) => {
                if let Some(item) = items.get_mut(*index) {
                    item.value = Value::Gone;
                }
            }
            _ => {}
        }
    }
}
