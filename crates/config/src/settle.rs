//! Finds every mistake of a tree, though a deserializer stops at the first.
//!
//! A mistake is noted and its value taken out, so that the field takes its default; a field without one gets
//! something to stand in for it. Then the tree is read again, until no mistake is left. Each round takes one
//! value out, or puts one in, so there is an end to it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use serde::de::DeserializeOwned;

use crate::check::{Check, Faults, Found, did_you_mean};
use crate::decode::{Decode, DecodeError, Unread, Why};
use crate::node::{Entry, Node, Value};
use crate::path::{KeyPath, Segment, Trail, quoted, shown_key};
use crate::schema::{Schema, allowed, is_outside};

/// Rounds at most: two for each of ten thousand mistakes.
const ROUNDS_MAX: usize = 20_000;

/// What may stand in for a value of a type that does not take everything: whatever it asks for, then a text of
/// the kinds that types read.
const STAND_INS: [Option<&str>; 8] = [
    None,
    Some("a"),
    Some("1"),
    Some("127.0.0.1:0"),
    Some("127.0.0.1"),
    Some("http://127.0.0.1/"),
    Some("1970-01-01T00:00:00Z"),
    Some("00000000-0000-0000-0000-000000000000"),
];

/// A mistake, before it is known where it stands.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) path: KeyPath,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// It is about the key, not its value.
    pub(crate) of_key: bool,
    pub(crate) beside: Vec<KeyPath>,
}

#[derive(Debug)]
pub(crate) struct Settling<'a> {
    pub(crate) tree: Node,
    schema: &'a Schema,
    /// Parts could not be read, so nobody can say what is missing.
    incomplete: bool,
    pub(crate) findings: Vec<Finding>,
    /// What is wrong by itself.
    pub(crate) faulty: HashSet<KeyPath>,
    taken_out: HashSet<KeyPath>,
    /// How many of the stand-ins have been tried.
    stood_in: HashMap<KeyPath, usize>,
}

impl<'a> Settling<'a> {
    pub(crate) fn new(tree: Node, schema: &'a Schema, incomplete: bool) -> Self {
        Self {
            tree,
            schema,
            incomplete,
            findings: Vec::new(),
            faulty: HashSet::new(),
            taken_out: HashSet::new(),
            stood_in: HashMap::new(),
        }
    }

    /// The value, as good as it can be made; none if nothing can stand in for what is wrong.
    pub(crate) fn settle<T: DeserializeOwned>(&mut self) -> Option<T> {
        for _ in 0..ROUNDS_MAX {
            let unread = RefCell::new(Vec::new());
            let decode = Decode { node: &self.tree, at: &Trail::Top, unread: &unread };
            let result = T::deserialize(decode).map_err(|error| error.at(&Trail::Top));
            for unread in unread.into_inner() {
                self.unknown_key(unread);
            }
            match result {
                Ok(value) => {
                    self.find_outside();
                    return Some(value);
                }
                Err(error) => self.go_on(error)?,
            }
        }
        None
    }

    fn unknown_key(&mut self, Unread { table, key, known }: Unread) {
        let path = table.key(&key);
        self.tree.remove(&path);
        let help = known_keys(&key, known);
        let within = if table.0.is_empty() { String::new() } else { format!(" in {table}") };
        let message = format!("unknown key '{}'{within}", shown_key(&key));
        self.findings.push(Finding { path, message, help: Some(help), of_key: true, beside: vec![] });
    }

    /// Notes the mistake and changes the tree so that the next one can be found.
    fn go_on(&mut self, DecodeError { why, path }: DecodeError) -> Option<()> {
        let path = path.unwrap_or_default();
        if let Why::Missing(key) = why {
            return self.missing(&path, key);
        }
        let (at, node) = self.tree.deepest(&path);
        // What is left of a value, once its parts are taken out, may not make sense; those were told.
        let left_over =
            node.entries().is_empty() && self.taken_out.iter().any(|out| out.parent().as_ref() == Some(&at));
        if node.made_up || left_over {
            return self.drop(&at);
        }
        let (shown, hidden) = (self.schema.shown(&at, node), self.schema.hides(&at, node));
        let allowed = self.schema.at(&at).and_then(allowed);
        let (message, help, of_key) = match why {
            Why::UnknownKey { key, known } => {
                let message = format!("unknown key '{}' in {at}", shown_key(&key));
                let known_here = node.entry(&key).is_some();
                let at = if known_here { at.key(&key) } else { at.clone() };
                let finding = Finding { path: at.clone(), message, help: None, of_key: true, beside: vec![] };
                self.findings.push(Finding { help: Some(known_keys(&key, &known)), ..finding });
                if known_here {
                    self.tree.remove(&at);
                    return Some(());
                }
                return self.drop(&at);
            }
            Why::UnknownChoice { given, known } => {
                let help = did_you_mean(&given, known.iter().copied())
                    .map(|meant| format!("did you mean \"{meant}\"?"));
                let shown = if hidden { shown } else { quoted(&given) };
                (format!("{at} is {shown}; give one of {}", known.join(", ")), help, false)
            }
            Why::Wrong(expected) => {
                (format!("{at} is {shown}; give {}", allowed.unwrap_or(expected)), None, false)
            }
            // The words may have the value in them.
            Why::Other(_) if hidden => {
                let allowed = allowed.unwrap_or_else(|| "another".to_owned());
                (format!("{at} is {shown} that its type refuses; give {allowed}"), None, false)
            }
            Why::Other(words) => (format!("{at} is {shown}: {words}"), None, false),
            Why::Missing(_) => return None,
        };
        self.faulty.insert(at.clone());
        self.findings.push(Finding { path: at.clone(), message, help, of_key, beside: vec![] });
        self.drop(&at)
    }

    fn missing(&mut self, table: &KeyPath, key: &'static str) -> Option<()> {
        let path = table.key(key);
        let (at, node) = self.tree.deepest(table);
        let made_up = node.made_up;
        if !made_up && !self.taken_out.contains(&path) && !self.incomplete {
            let allowed = self.schema.at(&path).and_then(allowed);
            let help = allowed.map(|allowed| format!("give {allowed}"));
            let message = format!("{path} is missing");
            self.findings.push(Finding { path: path.clone(), message, help, of_key: false, beside: vec![] });
        }
        self.faulty.insert(path.clone());
        let sample = self.schema.sample(&path).unwrap_or_else(|| Node::made_up(Value::Anything));
        match self.tree.at_mut(table).map(|node| &mut node.value) {
            // Last, so that all that stands there is read before something made up fails.
            Some(Value::Table(entries)) if !made_up && entries.iter().all(|entry| entry.key != key) => {
                entries.push(Entry { key: key.to_owned(), span: None, node: sample });
                Some(())
            }
            _ => self.drop(&at),
        }
    }

    /// Takes a value out, or, if it is out already and nothing can stand in for it, all it belongs to.
    fn drop(&mut self, path: &KeyPath) -> Option<()> {
        if path.0.is_empty() {
            return None;
        }
        if self.taken_out.insert(path.clone()) {
            self.tree.remove(path);
            return Some(());
        }
        // Not its whole table yet: something else may do.
        if let (Some(node), Some(Segment::Key(_))) = (self.tree.at_mut(path), path.0.last()) {
            let tried = self.stood_in.entry(path.clone()).or_default();
            if let Some(text) = STAND_INS.get(*tried) {
                *tried += 1;
                let value = text.map_or(Value::Anything, |text| Value::Untyped(text.to_owned()));
                *node = Node::made_up(value);
                return Some(());
            }
        }
        self.drop(&path.parent()?)
    }

    /// What the type itself finds, but for what follows from a value that is wrong by itself.
    pub(crate) fn check<T: Check>(&mut self, value: &T) {
        let mut found = Vec::new();
        value.check(&mut Faults::new(&mut found));
        for Found { at, message, beside, help } in found {
            // The type knows nothing of entries that were taken out.
            let at = self.tree.with_gone(&at);
            let beside: Vec<_> = beside.iter().map(|other| self.tree.with_gone(other)).collect();
            let is_faulty = |path: &KeyPath| {
                let about = |faulty: &KeyPath| !path.0.is_empty() && faulty.starts_with(path);
                self.faulty.iter().any(|faulty| path.starts_with(faulty) || about(faulty))
            };
            if is_faulty(&at) || beside.iter().any(is_faulty) {
                continue;
            }
            let whose = if at.0.is_empty() { String::new() } else { format!("{at}: ") };
            let message = format!("{whose}{message}");
            self.findings.push(Finding { path: at, message, help, of_key: false, beside });
        }
    }

    /// What has its type and is not within its limits.
    fn find_outside(&mut self) {
        let mut outside = Vec::new();
        walk(&self.tree, &KeyPath::default(), &mut |path, node| {
            let schema = self.schema.at(path).filter(|schema| !node.made_up && is_outside(schema, node));
            let Some(allowed) = schema.map(|schema| allowed(schema).unwrap_or_else(|| "fewer".into())) else {
                return;
            };
            let shown = self.schema.shown(path, node);
            outside.push((path.clone(), format!("{path} is {shown}; give {allowed}")));
        });
        for (path, message) in outside {
            self.faulty.insert(path.clone());
            self.findings.push(Finding { path, message, help: None, of_key: false, beside: vec![] });
        }
    }
}

fn known_keys(given: &str, known: &[&'static str]) -> String {
    let all = if known.is_empty() { "there are no keys here".into() } else { known.join(", ") };
    match did_you_mean(given, known.iter().copied()) {
        Some(meant) => format!("did you mean '{meant}'? The keys here: {all}"),
        None => format!("the keys here: {all}"),
    }
}

/// Visits every value, the outer ones first.
pub(crate) fn walk(node: &Node, at: &KeyPath, visit: &mut dyn FnMut(&KeyPath, &Node)) {
    visit(at, node);
    match &node.value {
        Value::Table(entries) => {
            for entry in entries {
                walk(&entry.node, &at.key(&entry.key), visit);
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &at.with(Segment::Index(index)), visit);
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
