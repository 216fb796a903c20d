//! Gives a tree a type: a deserializer that knows the path of every error, and which keys nobody reads.

use std::cell::RefCell;
use std::fmt::Display;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::file::{parse_list, parse_value};
use crate::node::{Entry, Node, Value};
use crate::path::{KeyPath, Trail};

/// Why a value does not have its type.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Why {
    #[error("unknown key '{key}'")]
    UnknownKey { key: String, known: Vec<&'static str> },
    #[error("unknown choice '{given}'")]
    UnknownChoice { given: String, known: Vec<&'static str> },
    #[error("'{0}' is missing")]
    Missing(&'static str),
    /// What would be right.
    #[error("expected {0}")]
    Wrong(String),
    /// The type's own words.
    #[error("{0}")]
    Other(String),
}

#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(crate) struct DecodeError {
    pub(crate) why: Why,
    /// Unknown until the error has left the value it is about.
    pub(crate) path: Option<KeyPath>,
}

impl DecodeError {
    pub(crate) fn at(mut self, trail: &Trail<'_>) -> Self {
        self.path.get_or_insert_with(|| trail.path());
        self
    }
}

impl From<Why> for DecodeError {
    fn from(why: Why) -> Self {
        Self { why, path: None }
    }
}

impl serde::de::Error for DecodeError {
    fn custom<T: Display>(message: T) -> Self {
        Why::Other(message.to_string()).into()
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Why::Wrong(expected.to_string()).into()
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Why::Wrong(expected.to_string()).into()
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Why::Wrong(expected.to_string()).into()
    }

    fn unknown_variant(given: &str, known: &'static [&'static str]) -> Self {
        Why::UnknownChoice { given: given.to_owned(), known: known.to_vec() }.into()
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Why::UnknownKey { key: key.to_owned(), known: known.to_vec() }.into()
    }

    fn missing_field(key: &'static str) -> Self {
        Why::Missing(key).into()
    }
}

/// A key that no field of its struct has.
#[derive(Debug)]
pub(crate) struct Unread {
    pub(crate) table: KeyPath,
    pub(crate) key: String,
    pub(crate) known: &'static [&'static str],
}

/// Reads one node.
#[derive(Clone, Copy)]
pub(crate) struct Decode<'a> {
    pub(crate) node: &'a Node,
    pub(crate) at: &'a Trail<'a>,
    pub(crate) unread: &'a RefCell<Vec<Unread>>,
}

impl<'a> Decode<'a> {
    fn with(&self, node: &'a Node, at: &'a Trail<'a>) -> Self {
        Self { node, at, unread: self.unread }
    }

    fn table<'de, V: Visitor<'de>>(
        &self,
        entries: &'a [Entry],
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let mut read = Vec::new();
        for entry in entries {
            match fields {
                Some(known) if !known.contains(&entry.key.as_str()) => {
                    let (table, key) = (self.at.path(), entry.key.clone());
                    self.unread.borrow_mut().push(Unread { table, key, known });
                }
                _ => read.push(entry),
            }
        }
        visitor.visit_map(Table { inside: *self, entries: read.into_iter(), value: None })
    }

    fn list<'de, V: Visitor<'de>>(&self, items: &'a [Node], visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(List { inside: *self, items, next: 0 })
    }

    /// A whole number from `min` to `max`, or nothing if it is none.
    fn integer(&self, min: i128, max: i128) -> Result<i128, DecodeError> {
        let number = match &self.node.value {
            Value::Integer(number) => Some(*number),
            Value::Untyped(text) => text.trim().replace('_', "").parse().ok(),
            Value::Anything => Some(0),
            Value::Table(_)
            | Value::List(_)
            | Value::Bool(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Gone => None,
        };
        number
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| Why::Wrong(format!("a whole number from {min} to {max}")).into())
    }

    fn float(&self) -> Result<f64, DecodeError> {
        match &self.node.value {
            Value::Float(number) => Ok(*number),
            Value::Integer(number) => Ok(*number as f64),
            Value::Untyped(text) => text.trim().parse().map_err(|_| Why::Wrong("a number".to_owned()).into()),
            Value::Anything => Ok(0.0),
            Value::Table(_) | Value::List(_) | Value::Bool(_) | Value::Text(_) | Value::Gone => {
                Err(Why::Wrong("a number".to_owned()).into())
            }
        }
    }

    fn wrong<T>(expected: &str) -> Result<T, DecodeError> {
        Err(Why::Wrong(expected.to_owned()).into())
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            let number = self.integer(i128::from(<$type>::MIN), i128::from(<$type>::MAX))?;
            visitor.$visit(<$type>::try_from(number).map_err(DecodeError::custom)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Decode<'_> {
    type Error = DecodeError;

    integers!(
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64
    );

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Table(entries) => self.table(entries, None, visitor),
            Value::List(items) => self.list(items, visitor),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => visitor.visit_i64(number),
                (_, Ok(number)) => visitor.visit_u64(number),
                _ => visitor.visit_i128(*number),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(text) => visitor.visit_str(text),
            Value::Untyped(text) => match parse_value(text, &self.node.origin) {
                Some(node) => self.with(&node, self.at).deserialize_any(visitor),
                None => visitor.visit_str(text),
            },
            Value::Anything | Value::Gone => visitor.visit_unit(),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Untyped(text) if text == "true" || text == "false" => visitor.visit_bool(text == "true"),
            Value::Anything => visitor.visit_bool(false),
            Value::Table(_)
            | Value::List(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Untyped(_)
            | Value::Gone => Self::wrong("true or false"),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_f32(self.float()? as f32)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_f64(self.float()?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Text(text) | Value::Untyped(text) => visitor.visit_str(text),
            Value::Anything => visitor.visit_str(""),
            Value::Table(_)
            | Value::List(_)
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Gone => Self::wrong("a text in quotes"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if matches!(self.node.value, Value::Anything) {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if matches!(self.node.value, Value::Anything) { visitor.visit_unit() } else { Self::wrong("nothing") }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::List(items) => self.list(items, visitor),
            Value::Untyped(text) => self.list(&parse_list(text, &self.node.origin), visitor),
            Value::Anything => self.list(&[], visitor),
            Value::Table(_)
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Gone => Self::wrong("a list in brackets"),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.tabular(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.tabular(Some(fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let nothing = Node::made_up(Value::Anything);
        match &self.node.value {
            Value::Text(text) | Value::Untyped(text) => {
                visitor.visit_enum(Choice { name: text, content: None, inside: self })
            }
            Value::Table(entries) if entries.len() == 1 => {
                let Entry { key, node, .. } = &entries[0];
                let at = Trail::Key(self.at, key);
                let content = Some(self.with(node, &at));
                visitor.visit_enum(Choice { name: key, content, inside: self })
            }
            Value::Anything if !variants.is_empty() => {
                let content = Some(self.with(&nothing, self.at));
                visitor.visit_enum(Choice { name: variants[0], content, inside: self })
            }
            Value::Table(_)
            | Value::List(_)
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Anything
            | Value::Gone => Err(Why::Wrong(format!("one of {}", variants.join(", "))).into()),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 bytes byte_buf }
}

impl Decode<'_> {
    fn tabular<'de, V: Visitor<'de>>(
        self,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Table(entries) => self.table(entries, fields, visitor),
            Value::Untyped(text) => match parse_value(text, &self.node.origin) {
                Some(Node { value: Value::Table(entries), .. }) => self.table(&entries, fields, visitor),
                _ => Self::wrong("a table"),
            },
            Value::Anything => {
                let made_up = |key: &&str| Entry {
                    key: (*key).to_owned(),
                    span: None,
                    node: Node::made_up(Value::Anything),
                };
                let entries: Vec<_> = fields.unwrap_or_default().iter().map(made_up).collect();
                self.table(&entries, None, visitor)
            }
            Value::List(_)
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Gone => Self::wrong("a table"),
        }
    }
}

struct Table<'a> {
    inside: Decode<'a>,
    entries: std::vec::IntoIter<&'a Entry>,
    value: Option<&'a Entry>,
}

impl<'de> MapAccess<'de> for Table<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        self.value = self.entries.next();
        let Some(entry) = self.value else { return Ok(None) };
        let at = Trail::Key(self.inside.at, &entry.key);
        // A key may be asked for as a number or a name of its own type.
        let key = Node::new(Value::Untyped(entry.key.clone()), entry.node.origin.clone());
        seed.deserialize(self.inside.with(&key, &at)).map(Some).map_err(|error| error.at(&at))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        let entry = self.value.expect("serde asks for the key first");
        let at = Trail::Key(self.inside.at, &entry.key);
        seed.deserialize(self.inside.with(&entry.node, &at)).map_err(|error| error.at(&at))
    }
}

struct List<'a> {
    inside: Decode<'a>,
    items: &'a [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for List<'_> {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        let gone = |node: &Node| matches!(node.value, Value::Gone);
        while self.items.get(self.next).is_some_and(gone) {
            self.next += 1;
        }
        let Some(node) = self.items.get(self.next) else { return Ok(None) };
        let at = Trail::Index(self.inside.at, self.next);
        self.next += 1;
        seed.deserialize(self.inside.with(node, &at)).map(Some).map_err(|error| error.at(&at))
    }
}

struct Choice<'a> {
    name: &'a str,
    content: Option<Decode<'a>>,
    inside: Decode<'a>,
}

impl<'de, 'a> EnumAccess<'de> for Choice<'a> {
    type Error = DecodeError;
    type Variant = Content<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Content<'a>), DecodeError> {
        let name = StrDeserializer::<DecodeError>::new(self.name);
        let variant = seed.deserialize(name).map_err(|error| error.at(self.inside.at))?;
        Ok((variant, Content(self.content)))
    }
}

struct Content<'a>(Option<Decode<'a>>);

impl<'a> Content<'a> {
    fn some(self) -> Result<Decode<'a>, DecodeError> {
        self.0.ok_or_else(|| Why::Wrong("a table with its name and what belongs to it".to_owned()).into())
    }
}

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.0.map(|content| &content.node.value) {
            None | Some(Value::Anything) => Ok(()),
            Some(_) => Decode::wrong("the name alone"),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, DecodeError> {
        let content = self.some()?;
        seed.deserialize(content).map_err(|error| error.at(content.at))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DecodeError> {
        let content = self.some()?;
        content.deserialize_seq(visitor).map_err(|error| error.at(content.at))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let content = self.some()?;
        content.tabular(Some(fields), visitor).map_err(|error| error.at(content.at))
    }
}
