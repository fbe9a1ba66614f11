//! Reading the CLI's events: JSON objects whose fields may come in any order and of any kind.
//!
//! A field is looked at only when asked for, and one of an unexpected kind reads as absent, so
//! that a new version of the CLI cannot make an event unreadable.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::value::RawValue;

/// A JSON object with its values unread.
pub(crate) struct Object<'a>(HashMap<Text, &'a RawValue>);

/// A JSON string in which half of a surrogate pair, which the CLI writes when it cuts a text
/// inside an emoji, becomes a replacement character.
#[derive(PartialEq, Eq, Hash)]
struct Text(String);

impl<'a> Object<'a> {
    /// Reads an object; `None` for anything else.
    pub(crate) fn parse(json: &'a str) -> Option<Self> {
        // Cheaper than letting the parser fail on each line of plain text.
        if !json.trim_start().starts_with('{') {
            return None;
        }
        serde_json::from_str(json).ok().map(Self)
    }

    fn value<T: Deserialize<'a>>(&self, key: &str) -> Option<T> {
        serde_json::from_str(self.raw(key)?).ok()
    }

    /// The JSON of a field.
    pub(crate) fn raw(&self, key: &str) -> Option<&'a str> {
        // The map is small and keyed by an owned wrapper; looking through it spares an allocation.
        let found = self.0.iter().find(|(name, _)| name.0 == key);
        found.map(|(_, value)| value.get())
    }

    /// A string.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.value::<Text>(key).map(|text| text.0)
    }

    /// A boolean.
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        self.value(key)
    }

    /// A whole number; a fraction is cut off.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float saturates, which is right here"
    )]
    pub(crate) fn integer(&self, key: &str) -> Option<i64> {
        self.value(key)
            .or_else(|| self.number(key).map(|number| number as i64))
    }

    /// A number.
    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        self.value(key)
    }

    /// An object.
    pub(crate) fn object(&self, key: &str) -> Option<Self> {
        Self::parse(self.raw(key)?)
    }

    /// The fields of an object that are objects themselves, with their names.
    pub(crate) fn named_objects(&self, key: &str) -> Option<Vec<(String, Self)>> {
        let fields = self.object(key)?.0.into_iter();
        let objects = fields.filter_map(|(name, value)| Some((name.0, Self::parse(value.get())?)));
        Some(objects.collect())
    }

    /// The members of an array that are objects.
    pub(crate) fn objects(&self, key: &str) -> Vec<Self> {
        let members: Vec<&'a RawValue> = self.value(key).unwrap_or_default();
        members
            .into_iter()
            .filter_map(|member| Self::parse(member.get()))
            .collect()
    }

    /// The members of an array that are strings.
    pub(crate) fn texts(&self, key: &str) -> Vec<String> {
        let members: Vec<&'a RawValue> = self.value(key).unwrap_or_default();
        let text = |member: &RawValue| serde_json::from_str(member.get()).ok();
        let texts = members.into_iter().filter_map(text);
        texts.map(|text: Text| text.0).collect()
    }

    /// The first member of an array, when it is a string.
    pub(crate) fn first_text(&self, key: &str) -> Option<String> {
        let members: Vec<&'a RawValue> = self.value(key)?;
        let first: Text = serde_json::from_str(members.first()?.get()).ok()?;
        Some(first.0)
    }

    /// How many members an array has.
    pub(crate) fn count(&self, key: &str) -> Option<usize> {
        self.value::<Vec<&'a RawValue>>(key)
            .map(|members| members.len())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lossy;
        impl Visitor<'_> for Lossy {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        // As bytes, serde_json lets half surrogate pairs through instead of failing.
        deserializer.deserialize_bytes(Lossy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_an_unexpected_kind_reads_as_absent() {
        let json = r#"{"a":1,"b":"x","c":[1],"d":null,"e":{"f":true},"g":2.7,"a":3}"#;
        let object = Object::parse(json).unwrap();
        assert_eq!((object.text("a"), object.integer("a")), (None, Some(3)));
        assert_eq!(
            (object.text("b"), object.integer("b")),
            (Some("x".into()), None)
        );
        assert_eq!((object.count("c"), object.text("c")), (Some(1), None));
        assert_eq!((object.text("d"), object.flag("d")), (None, None));
        assert_eq!(object.object("e").and_then(|e| e.flag("f")), Some(true));
        assert_eq!(object.integer("g"), Some(2));
        assert!(Object::parse("[1]").is_none() && Object::parse("{").is_none());
    }

    #[test]
    fn half_a_surrogate_pair_does_not_make_a_text_unreadable() {
        let object = Object::parse(r#"{"a":"cut \ud83d"}"#).unwrap();
        let text = object.text("a").unwrap();
        assert!(text.starts_with("cut \u{fffd}"), "{text:?}");
    }
}
