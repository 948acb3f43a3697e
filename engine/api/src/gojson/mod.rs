//! Request bodies read the way Go's encoding/json reads them, since clients rely on it: `null` stands for any type's zero
//! value, a field's name matches whatever its case, unknown fields are ignored. A mismatch names the field.

use std::fmt;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
    value::StrDeserializer,
};
use serde_json::{Map, Value};

use crate::ApiError;

/// Reads one JSON value and nothing after it.
pub(crate) fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, ApiError> {
    let value: Value = serde_json::from_slice(text).map_err(|error| {
        // Docker's words for a body that was cut off.
        let reason = if error.is_eof() { "unexpected EOF".to_owned() } else { error.to_string() };
        ApiError::invalid(format!("invalid JSON: {reason}"))
    })?;
    // A second copy of an ordinary body costs nothing against what a container or network does.
    let copy = (text.len() <= EXPLAINED).then(|| value.clone());
    T::deserialize(Go(value)).map_err(|mut error| {
        if let Some(name) = copy.and_then(|value| culprit::<T>(value, &error.path)) {
            error.path.insert(0, name);
        }
        ApiError::invalid(format!("invalid JSON: {error}"))
    })
}

/// The largest body, in bytes, of which an error is looked into.
const EXPLAINED: usize = 64 << 10;

/// Structs that flatten another lose the name of the field that does not fit (serde keeps no place for it). It is found
/// by leaving out one field after the other.
fn culprit<T: DeserializeOwned>(mut value: Value, path: &[String]) -> Option<String> {
    fn at<'a>(value: &'a mut Value, path: &[String]) -> Option<&'a mut Map<String, Value>> {
        let mut place = value;
        for step in path.iter().rev() {
            place = match place {
                Value::Object(fields) => fields.get_mut(step)?,
                Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        place.as_object_mut()
    }
    let names: Vec<String> = at(&mut value, path)?.keys().cloned().collect();
    names.into_iter().find(|name| {
        let Some(taken) = at(&mut value, path).and_then(|fields| fields.remove(name)) else { return false };
        let fits = T::deserialize(Go(value.clone())).is_ok();
        if let Some(fields) = at(&mut value, path) {
            fields.insert(name.clone(), taken);
        }
        fits
    })
}

#[derive(Debug)]
struct Mismatch {
    path: Vec<String>,
    problem: String,
}

impl Mismatch {
    fn inside(mut self, step: impl Into<String>) -> Self {
        self.path.push(step.into());
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        if self.path.is_empty() {
            return Ok(());
        }
        f.write_str(" in field ")?;
        for (i, step) in self.path.iter().rev().enumerate() {
            write!(f, "{}{step}", if i == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: Vec::new(), problem: message.to_string() }
    }
}

struct Go(Value);

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        host_port: String,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        name: String,
        count: u16,
        flag: bool,
        list: Vec<String>,
        size: [u32; 2],
        ports: BTreeMap<String, Vec<Inner>>,
        inner: Inner,
        maybe: Option<String>,
    }

    fn read(text: &str) -> Result<Outer, ApiError> {
        from_slice(text.as_bytes())
    }

    #[test]
    fn null_is_the_zero_value_everywhere() {
        let text = r#"{"Name":null,"Count":null,"Flag":null,"List":null,"Size":null,"Ports":null,"Inner":null,"Maybe":null}"#;
        assert_eq!(read(text).unwrap(), Outer::default());
        assert_eq!(read("null").unwrap(), Outer::default());
    }

    #[test]
    fn null_in_a_map_keeps_the_key() {
        let ports = read(r#"{"Ports":{"80/tcp":null}}"#).unwrap().ports;
        assert_eq!(ports, BTreeMap::from([("80/tcp".to_owned(), vec![])]));
    }

    #[test]
    fn names_match_in_any_case_and_unknown_ones_are_ignored() {
        let outer = read(r#"{"name":"a","COUNT":3,"Bogus":{"x":[1]}}"#).unwrap();
        assert_eq!((outer.name.as_str(), outer.count), ("a", 3));
    }

    #[test]
    fn the_exact_name_wins_over_another_case() {
        assert_eq!(read(r#"{"Name":"exact","name":"other"}"#).unwrap().name, "exact");
    }

    #[test]
    fn keys_of_a_map_keep_their_case() {
        let map: BTreeMap<String, String> = from_slice(br#"{"Name":"a","name":"b"}"#).unwrap();
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn a_mismatch_names_the_field() {
        let error = read(r#"{"Ports":{"80/tcp":[{"HostPort":80}]}}"#).unwrap_err();
        assert_eq!(
            error.message,
            "invalid JSON: cannot unmarshal number into a value of type string in field Ports.80/tcp.0.HostPort"
        );
        assert!(read(r#"{"Count":70000}"#).unwrap_err().message.contains("in field Count"));
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Flat {
        #[serde(flatten)]
        outer: Outer,
        host: Option<Box<Flat>>,
    }

    #[test]
    fn a_mismatch_in_a_flattened_struct_names_the_field_too() {
        let error = |text: &str| from_slice::<Flat>(text.as_bytes()).unwrap_err().message;
        assert!(
            error(r#"{"List":[],"Name":5}"#).ends_with("in field Name"),
            "{}",
            error(r#"{"List":[],"Name":5}"#)
        );
        let nested = error(r#"{"Name":"a","Host":{"Flag":true,"Count":"x"}}"#);
        assert!(nested.ends_with("in field Host.Count"), "{nested}");
    }

    #[test]
    fn a_body_that_is_cut_off_or_has_more_is_refused() {
        assert_eq!(read("{").unwrap_err().message, "invalid JSON: unexpected EOF");
        assert!(read("{} {}").unwrap_err().message.starts_with("invalid JSON: trailing"));
    }
}
