//! Reading an object's members whatever their keys are.
//!
//! `serde_json` reads keys as Rust's text and refuses a UTF-16 surrogate that stands alone
//! (`"\ud83d"`), which is JSON all the same: JavaScript writes one for a text that was cut within a
//! character. No key of ours has one, so a key that has is nobody's, and passed over like any other.

use serde::Deserialize;
use serde::de::value::CowStrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::de::StrRead;
use serde_json::value::RawValue;

use super::text::{unescape, unquoted};

/// Reads an object into a struct of raw fields. The text ends with it.
pub fn members<'a, T: Deserialize<'a>>(text: &'a str) -> serde_json::Result<T> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let members = T::deserialize(Object(&mut reader))?;
    reader.end()?;
    Ok(members)
}

/// Hands an object to a derived struct with its keys unescaped by our own rules.
struct Object<'r, 'de>(&'r mut serde_json::Deserializer<StrRead<'de>>);

impl<'de> Deserializer<'de> for Object<'_, 'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.0.deserialize_map(WithKeys(visitor))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The struct's visitor, which sees the object through [`Keys`].
struct WithKeys<V>(V);

impl<'a, V: Visitor<'a>> Visitor<'a> for WithKeys<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.expecting(f)
    }

    fn visit_map<A: MapAccess<'a>>(self, members: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Keys(members))
    }
}

/// An object's members, each key taken as it is written and unescaped here.
struct Keys<A>(A);

impl<'a, A: MapAccess<'a>> MapAccess<'a> for Keys<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'a>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        // As a raw value the key's grammar is checked, control characters too, and its text is not.
        let Some(written) = self.0.next_key::<&RawValue>()? else {
            return Ok(None);
        };
        let key = unescape(unquoted(written.get()).unwrap_or_default());
        seed.deserialize(CowStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}
