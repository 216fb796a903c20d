//! A TOML text as a tree, with all that is wrong with its grammar.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::node::{Entry, Node, Origin, Value};

/// The file values come from.
#[derive(Debug, Clone)]
pub(crate) struct SourceText {
    pub(crate) name: Arc<str>,
    pub(crate) text: Arc<str>,
}

/// A mistake of grammar: what, and at which bytes.
pub(crate) type Mistake = (String, Range<usize>);

impl SourceText {
    pub(crate) fn parse(&self) -> (Node, Vec<Mistake>) {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        let (span, table) = (table.span(), table.into_inner());
        let origin = |span: &Range<usize>| self.origin(span);
        let tree = Node { span: Some(span.clone()), ..Node::new(entries(table, &origin), origin(&span)) };
        let at = |error: &toml::de::Error| error.span().unwrap_or(0..0);
        (tree, errors.iter().map(|error| (error.message().to_owned(), at(error))).collect())
    }

    /// The place where `span` begins.
    pub(crate) fn origin(&self, span: &Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Origin::File {
            name: self.name.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// The line in which `span` begins, and the span within it in characters.
    pub(crate) fn line(&self, span: &Range<usize>) -> (&str, Range<usize>) {
        let start = span.start.min(self.text.len());
        let line_start = self.text[..start].rfind('\n').map_or(0, |end| end + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |end| start + end);
        let line = self.text[line_start..line_end].trim_end_matches('\r');
        let chars = |to: usize| self.text.get(line_start..to).map_or(0, |text| text.chars().count());
        let end = span.end.clamp(start, line_end);
        (line, chars(start)..chars(end))
    }
}

/// A value by itself, as it may stand in a variable of the environment.
pub(crate) fn parse_value(text: &str, origin: &Origin) -> Option<Node> {
    let value = DeValue::parse(text).ok()?.into_inner();
    let mut node = Node::new(value_of(value, &|_| Origin::Default), Origin::Default);
    node.come_from(origin);
    Some(node)
}

/// The entries of a list by itself: as in a file, or as flags and variables write them, without brackets.
pub(crate) fn parse_list(text: &str, origin: &Origin) -> Vec<Node> {
    if let Some(Node { value: Value::List(items), .. }) = parse_value(text, origin) {
        return items;
    }
    let part = |text: &str| Node::new(Value::Untyped(text.trim().to_owned()), origin.clone());
    if text.is_empty() { vec![] } else { text.split(',').map(part).collect() }
}

fn entries(table: DeTable<'_>, origin: &dyn Fn(&Range<usize>) -> Origin) -> Value {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| {
            let span = key.span();
            let node = node_of(value, origin);
            Entry { key: key.into_inner().into_owned(), span: Some(span), node }
        })
        .collect();
    entries.sort_by_key(|entry| entry.span.as_ref().map_or(0, |span| span.start));
    Value::Table(entries)
}

fn node_of(value: Spanned<DeValue<'_>>, origin: &dyn Fn(&Range<usize>) -> Origin) -> Node {
    let span = value.span();
    let at = origin(&span);
    Node { span: Some(span), ..Node::new(value_of(value.into_inner(), origin), at) }
}

fn value_of(value: DeValue<'_>, origin: &dyn Fn(&Range<usize>) -> Origin) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Text(number.to_string()),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => Value::Text(number.to_string()),
        },
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(items) => Value::List(items.into_iter().map(|item| node_of(item, origin)).collect()),
        DeValue::Table(table) => entries(table, origin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_of_grammar_has_its_place() {
        let text = "a = 1\na = 2\nb = \nc = [1, 2\n";
        let source = SourceText { name: "x.toml".into(), text: text.into() };
        let (_, mistakes) = source.parse();
        let lines: Vec<_> = mistakes
            .iter()
            .map(|(_, span)| match source.origin(span) {
                Origin::File { line, .. } => line,
                other @ (Origin::Environment { .. } | Origin::Flag { .. } | Origin::Default) => {
                    panic!("{other}")
                }
            })
            .collect();
        assert!(3 <= lines.len() && lines.contains(&2) && lines.contains(&3), "{mistakes:?}");
    }

    #[test]
    fn a_column_counts_characters() {
        let source = SourceText { name: "x.toml".into(), text: "\"größe\" = 5".into() };
        let (tree, _) = source.parse();
        let span = tree.entries()[0].node.span.clone().unwrap();
        assert_eq!(source.origin(&span), Origin::File { name: "x.toml".into(), line: 1, column: 11 });
        assert_eq!(source.line(&span), ("\"größe\" = 5", 10..11));
    }
}
