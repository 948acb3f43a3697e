//! A value that was read whole first: it may have a name in two cases, and be looked into when it does not fit.

use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
    value::StrDeserializer,
};
use serde_json::{Map, Value};

use super::Mismatch;

pub(super) struct Go(pub(super) Value);

impl Go {
    fn refuse<T>(&self, wanted: &str) -> Result<T, Mismatch> {
        let got = match &self.0 {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        Err(de::Error::custom(format!("cannot unmarshal {got} into a value of type {wanted}")))
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            match self.0 {
                Value::Null => visitor.visit_u64(0),
                Value::Number(n) => n.deserialize_any(visitor).map_err(de::Error::custom),
                _ => self.refuse("number"),
            }
        }
    )*};
}

macro_rules! strings {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            match self.0 {
                Value::Null => visitor.visit_str(""),
                Value::String(text) => visitor.visit_string(text),
                _ => self.refuse("string"),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Go {
    type Error = Mismatch;

    numbers!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_i128 deserialize_u128 deserialize_f32 deserialize_f64);
    strings!(deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
        deserialize_identifier);

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(b),
            Value::Number(n) => n.deserialize_any(visitor).map_err(de::Error::custom),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => visitor.visit_seq(Items { items: items.into_iter(), at: 0 }),
            Value::Object(fields) => visitor.visit_map(Fields::new(fields, &[])),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(b) => visitor.visit_bool(b),
            _ => self.refuse("bool"),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_seq(Items { items: Vec::new().into_iter(), at: 0 }),
            Value::Array(items) => visitor.visit_seq(Items { items: items.into_iter(), at: 0 }),
            _ => self.refuse("array"),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Mismatch> {
        // A Go array: missing elements are zero.
        let mut items = match self.0 {
            Value::Null => Vec::new(),
            Value::Array(items) => items,
            _ => return self.refuse("array"),
        };
        items.resize(len, Value::Null);
        visitor.visit_seq(Items { items: items.into_iter(), at: 0 })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_map(Fields::new(Map::new(), &[])),
            Value::Object(fields) => visitor.visit_map(Fields::new(fields, &[])),
            _ => self.refuse("object"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_map(Fields::new(Map::new(), &[])),
            Value::Object(fields) => visitor.visit_map(Fields::new(fields, names)),
            _ => self.refuse("object"),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_enum("".into_deserializer()),
            value => value.deserialize_enum(name, variants, visitor).map_err(de::Error::custom),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }
}

struct Items {
    items: std::vec::IntoIter<Value>,
    at: usize,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mismatch> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let at = self.at;
        self.at += 1;
        seed.deserialize(Go(item)).map(Some).map_err(|error| error.inside(at.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Fields {
    fields: serde_json::map::IntoIter,
    /// The struct's own names; empty for a map, whose keys are data.
    names: &'static [&'static str],
    current: Option<(String, Value)>,
}

impl Fields {
    fn new(mut fields: Map<String, Value>, names: &'static [&'static str]) -> Self {
        // Where a name is there both in its own case and in another, its own counts.
        if !names.is_empty() {
            let other: Vec<String> = fields
                .keys()
                .filter(|key| !names.contains(&key.as_str()))
                .filter(|key| {
                    names.iter().any(|name| name.eq_ignore_ascii_case(key) && fields.contains_key(*name))
                })
                .cloned()
                .collect();
            for key in other {
                fields.remove(&key);
            }
        }
        Self { fields: fields.into_iter(), names, current: None }
    }
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        let Some((key, value)) = self.fields.next() else { return Ok(None) };
        let known = self.names.iter().find(|name| name.eq_ignore_ascii_case(&key));
        let name = known.map_or(key, |name| (*name).to_owned());
        let result = seed.deserialize(StrDeserializer::new(&name)).map(Some);
        self.current = Some((name, value));
        result
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Mismatch> {
        let (name, value) = self.current.take().unwrap_or_default();
        seed.deserialize(Go(value)).map_err(|error| error.inside(name))
    }
}
