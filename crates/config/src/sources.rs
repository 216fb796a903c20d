//! Where a configuration comes from, in the order in which one overrides the other: file, environment, flags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::check::Check;
use crate::fault::{ConfigErrors, Excerpt, Fault};
use crate::file::{Mistake, SourceText, parse_list, parse_value};
use crate::node::{Entry, Node, Origin, Value};
use crate::path::{KeyPath, Segment};
use crate::schema::{Schema, is_list, takes_table};
use crate::secret::Lines;
use crate::settle::{Finding, Settling, walk};

/// The places a configuration is read from. Later ones override earlier ones: a file, the environment, flags.
///
/// # Examples
///
/// ```
/// use gemba_config::{Check, Origin, Sources};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Service { listen: String, #[serde(default)] limits: Limits }
///
/// #[derive(Default, serde::Deserialize, schemars::JsonSchema)]
/// #[serde(default)]
/// struct Limits { #[schemars(range(min = 1))] hard: u32 }
///
/// impl Check for Service {}
///
/// let loaded = Sources::new("APP")
///     .text("app.toml", "listen = \"127.0.0.1:80\"\n[limits]\nhard = 1200\n")
///     .variables([("APP__LIMITS__HARD", "600")])
///     .flag("listen", "--listen", "127.0.0.1:8080")
///     .load::<Service>()?;
/// assert_eq!((loaded.value.listen.as_str(), loaded.value.limits.hard), ("127.0.0.1:8080", 600));
/// assert_eq!(loaded.origin("limits.hard").to_string(), "APP__LIMITS__HARD");
/// # Ok::<(), gemba_config::ConfigErrors>(())
/// ```
#[derive(Debug)]
pub struct Sources {
    prefix: String,
    defaults: Option<SourceText>,
    file: Option<Result<SourceText, Fault>>,
    /// What overrides the file, and where in the tree.
    overlays: Vec<Overlay>,
    faults: Vec<Fault>,
}

#[derive(Debug)]
struct Overlay {
    keys: Vec<String>,
    text: String,
    origin: Origin,
}

/// A configuration without mistakes, and where its values come from.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The configuration.
    pub value: T,
    pub(crate) origins: BTreeMap<String, Origin>,
    pub(crate) schema: Schema,
}

impl<T> Loaded<T> {
    /// Where the value of a key comes from, such as `limits.hard`.
    pub fn origin(&self, path: &str) -> Origin {
        self.origins.get(path).cloned().unwrap_or(Origin::Default)
    }
}

impl Sources {
    /// No sources yet. Variables of the environment begin with `prefix` and two underscores.
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            defaults: None,
            file: None,
            overlays: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Takes the values of this TOML text where nobody gives one: what a program wants otherwise than its types
    /// do, such as the pools it has. What is wrong with it is told like everything else, under this name.
    pub fn defaults(mut self, name: &str, text: &str) -> Self {
        self.defaults = Some(SourceText { name: name.into(), text: text.into() });
        self
    }

    /// Reads this file; that it cannot be read is told by [`load`](Self::load).
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let name = path.display().to_string();
        self.file = Some(match std::fs::read_to_string(path) {
            Ok(text) => Ok(SourceText { name: name.into(), text: text.into() }),
            Err(error) => Err(plain(format!("cannot read {name}: {error}"), Origin::Default)),
        });
        self
    }

    /// Takes this for the text of the file called `name`.
    pub fn text(mut self, name: &str, text: &str) -> Self {
        self.file = Some(Ok(SourceText { name: name.into(), text: text.into() }));
        self
    }

    /// Takes the variables of this process: `PREFIX__LIMITS__HARD` is `limits.hard`.
    pub fn environment(self) -> Self {
        self.variables(std::env::vars_os())
    }

    /// Takes these for the variables of the process.
    pub fn variables<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let beginning = format!("{}__", self.prefix);
        let all = variables.into_iter().filter_map(|(name, value)| {
            let name = name.into().into_string().ok()?;
            let keys = name.strip_prefix(&beginning)?.split("__").map(str::to_lowercase).collect();
            Some((name, keys, value.into()))
        });
        let mut all: Vec<(String, Vec<String>, OsString)> = all.collect();
        // The outer ones first, whatever the order of the environment is.
        all.sort();
        for (name, keys, value) in all {
            let origin = Origin::Environment { variable: name.as_str().into() };
            if keys.iter().any(String::is_empty) {
                let message = format!("{name} names no key; write it like {beginning}TABLE__KEY");
                self.faults.push(plain(message, origin));
                continue;
            }
            match value.into_string() {
                Ok(text) => self.overlays.push(Overlay { keys, text, origin }),
                Err(_) => self.faults.push(plain(format!("{name} is not UTF-8"), origin)),
            }
        }
        self
    }

    /// Sets one key, as `flag` on the command line asked for.
    pub fn flag(mut self, path: &str, flag: &str, value: impl Into<String>) -> Self {
        let keys = path.split('.').map(str::to_owned).collect();
        let origin = Origin::Flag { flag: flag.into() };
        self.overlays.push(Overlay { keys, text: value.into(), origin });
        self
    }

    /// Puts all together, gives it a type, and checks it.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every mistake: of grammar, of keys that nobody reads, of types, of ranges as the
    /// schema has them, and what [`Check`] finds.
    pub fn load<T: DeserializeOwned + JsonSchema + Check>(self) -> Result<Loaded<T>, ConfigErrors> {
        let schema = Schema::of::<T>();
        let lines = Lines::of(&schema);
        let Self { defaults, file, overlays, mut faults, .. } = self;
        let (source, mut tree, incomplete) = match file {
            None => (None, Node::new(Value::Table(vec![]), Origin::Default), false),
            Some(Err(fault)) => {
                faults.push(fault);
                (None, Node::new(Value::Table(vec![]), Origin::Default), true)
            }
            Some(Ok(source)) => {
                let (tree, mistakes) = source.parse();
                let incomplete = !mistakes.is_empty();
                // One in a line: what follows it there follows from it.
                for mistake in mistakes {
                    let fault = ungrammatical(mistake, &source, &lines);
                    if !faults.iter().any(|other| same_line(other, &fault)) {
                        faults.push(fault);
                    }
                }
                (Some(source), tree, incomplete)
            }
        };
        if let Some(defaults) = defaults {
            let (mut under, mistakes) = defaults.parse();
            faults.extend(mistakes.into_iter().map(|mistake| ungrammatical(mistake, &defaults, &lines)));
            under.come_from(&Origin::Default);
            tree.put_under(under);
        }
        for overlay in overlays {
            if let Err(message) = overlay.put(&mut tree) {
                faults.push(plain(message, overlay.origin));
            }
        }
        open(&mut tree, &KeyPath::default(), &schema);
        let mut settling = Settling::new(tree.clone(), &schema, incomplete);
        let value = settling.settle::<T>();
        if let Some(value) = value.as_ref().filter(|_| !incomplete) {
            settling.check(value);
        }
        let findings = settling.findings;
        let found = findings.into_iter().map(|finding| placed(finding, &tree, &schema, source.as_ref()));
        let found: Vec<_> = found
            .filter(|fault| !(incomplete && faults.iter().any(|other| same_line(other, fault))))
            .collect();
        faults.extend(found);
        for fault in &mut faults {
            // A mistake may be of another value of the line.
            let may_show = |excerpt: &Excerpt| !lines.names_secret(&excerpt.text);
            fault.excerpt = fault.excerpt.take().filter(may_show);
        }
        // Those of one place of the file stay in the order in which they were found.
        faults.sort_by_key(|fault| match &fault.origin {
            Origin::File { .. } | Origin::Default => (fault.place, String::new()),
            Origin::Environment { .. } | Origin::Flag { .. } => (fault.place, fault.origin.to_string()),
        });
        match value {
            Some(value) if faults.is_empty() => Ok(Loaded { value, origins: origins(&tree), schema }),
            _ => Err(ConfigErrors(faults)),
        }
    }
}

impl Overlay {
    /// Sets the key, and makes the tables it stands in.
    fn put(&self, tree: &mut Node) -> Result<(), String> {
        let mut node = tree;
        for key in &self.keys {
            node = match &mut node.value {
                Value::Table(entries) => {
                    let place = entries.iter().position(|entry| same_key(&entry.key, key));
                    let place = place.unwrap_or_else(|| {
                        let node = Node::new(Value::Table(vec![]), self.origin.clone());
                        entries.push(Entry { key: key.clone(), span: None, node });
                        entries.len() - 1
                    });
                    &mut entries[place].node
                }
                Value::List(items) => {
                    let (length, name) = (items.len(), &self.origin);
                    let place = key.parse::<usize>().ok().filter(|place| *place < length);
                    let place = place.ok_or_else(|| {
                        format!("{name} names entry '{key}' of a list of {length}; they count from 0")
                    })?;
                    &mut items[place]
                }
                Value::Bool(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Text(_)
                | Value::Untyped(_)
                | Value::Anything
                | Value::Gone => {
                    let (inner, outer) = (&self.origin, &node.origin);
                    return Err(format!("{inner} sets '{key}' within a value that {outer} sets as a whole"));
                }
            };
        }
        let empty = matches!(&node.value, Value::Table(entries) if entries.is_empty());
        let replaced = (!(empty && node.span.is_none())).then(|| (node.shown(), node.origin.clone()));
        *node = Node { replaced, ..Node::new(Value::Untyped(self.text.clone()), self.origin.clone()) };
        Ok(())
    }
}

/// Opens the tables and lists that a variable or a flag sets as a whole: what is in them has a place and an origin
/// of its own, as in a file.
fn open(node: &mut Node, at: &KeyPath, schema: &Schema) {
    if let Value::Untyped(text) = &node.value {
        let said = schema.at(at);
        if said.is_some_and(is_list) {
            node.value = Value::List(parse_list(text, &node.origin));
        } else if said.is_some_and(takes_table)
            && let Some(Node { value: table @ Value::Table(_), .. }) = parse_value(text, &node.origin)
        {
            node.value = table;
        }
    }
    match &mut node.value {
        Value::Table(entries) => {
            for Entry { key, node, .. } in entries {
                open(node, &at.key(key), schema);
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                open(item, &at.with(Segment::Index(index)), schema);
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

/// Variables are written in capitals and without dashes.
fn same_key(key: &str, asked: &str) -> bool {
    key == asked || key.to_lowercase().replace('-', "_") == asked
}

fn plain(message: String, origin: Origin) -> Fault {
    let place = match &origin {
        Origin::File { .. } => (1, 0),
        Origin::Environment { .. } => (2, 0),
        Origin::Flag { .. } => (3, 0),
        Origin::Default => (0, 0),
    };
    let (path, excerpt, notes, helps) = (String::new(), None, Vec::new(), Vec::new());
    Fault { path, message, origin, excerpt, notes, helps, place }
}

fn same_line(one: &Fault, other: &Fault) -> bool {
    matches!((&one.origin, &other.origin), (Origin::File { line, .. }, Origin::File { line: other, .. }) if line == other)
}

fn mark(fault: &mut Fault, source: Option<&SourceText>, span: Option<&std::ops::Range<usize>>) {
    let (Some(source), Some(span), Origin::File { .. }) = (source, span, &fault.origin) else { return };
    fault.origin = source.origin(span);
    let (text, marked) = source.line(span);
    fault.excerpt = Some(Excerpt { text: text.to_owned(), marked });
    fault.place.1 = span.start;
}

/// A mistake of grammar; of a line that could not be read only what is no secret for sure is shown.
fn ungrammatical((message, span): Mistake, source: &SourceText, lines: &Lines<'_>) -> Fault {
    let mut fault = plain(message, source.origin(&span));
    mark(&mut fault, Some(source), Some(&span));
    fault.excerpt = fault.excerpt.filter(|excerpt| lines.is_harmless(&excerpt.text));
    fault
}

/// Where in the sources a mistake stands.
fn placed(finding: Finding, tree: &Node, schema: &Schema, source: Option<&SourceText>) -> Fault {
    let (at, node) = tree.deepest(&finding.path);
    let mut fault = plain(finding.message, node.origin.clone());
    fault.path = finding.path.to_string();
    // Nobody wrote the value: then the one that it does not fit is the place to look at.
    let given = |node: &&Node| node.origin != Origin::Default;
    let instead = finding.beside.iter().filter_map(|other| tree.at(other)).find(given);
    if let Some(instead) = instead.filter(|_| node.origin == Origin::Default) {
        let at = plain(String::new(), instead.origin.clone());
        (fault.origin, fault.place) = (at.origin, at.place);
        mark(&mut fault, source, instead.span.as_ref());
    }
    let key = match (finding.of_key, at.parent(), at.0.last()) {
        (true, Some(table), Some(Segment::Key(key))) => Some((table, key)),
        _ => None,
    };
    let key_span = key.as_ref().and_then(|(table, key)| tree.at(table)?.entry(key)?.span.clone());
    // The top of a file is no place to look at.
    if at.0.is_empty() && matches!(fault.origin, Origin::File { .. }) {
        fault.place = (0, 1);
    } else {
        mark(&mut fault, source, key_span.or_else(|| node.span.clone()).as_ref());
    }
    if schema.holds_secret(&at) || key.is_some_and(|(table, key)| schema.may_mean_secret(&table, key)) {
        fault.excerpt = None;
    } else if let Some((shown, origin)) = &node.replaced {
        fault.notes.push(format!("it overrides {at} = {shown} ({origin})"));
    }
    for other in &finding.beside {
        if let Some(node) = tree.at(other).filter(|node| !schema.hides(other, node)) {
            fault.notes.push(format!("{other} is {} ({})", node.shown(), node.origin));
        }
    }
    fault.helps.extend(finding.help);
    fault
}

fn origins(tree: &Node) -> BTreeMap<String, Origin> {
    let mut origins = BTreeMap::new();
    walk(tree, &KeyPath::default(), &mut |path, node| {
        origins.insert(path.to_string(), node.origin.clone());
    });
    origins
}

/// The name of the variable that sets `path`.
pub(crate) fn variable(prefix: &str, path: &str) -> Arc<str> {
    format!("{prefix}__{}", path.replace('.', "__").to_uppercase()).into()
}
