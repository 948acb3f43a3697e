//! A value that is read as it comes, without a copy of the whole in between: a body with a thousand ports is a hundred
//! thousand small pieces. What this does not take, for whatever reason, [`tree`](super::tree) may still take, or explains.

use std::{fmt, iter::Empty};

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
    value::{MapDeserializer, SeqDeserializer, StrDeserializer},
};

/// One JSON value and nothing after it. None when it does not fit, and also for a name that is there twice (in two cases,
/// say), a list that is not as long as the array that it is for, and `null` where one of several words is to be.
pub(super) fn read<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = T::deserialize(Go(&mut json)).ok()?;
    json.end().ok().map(|()| value)
}

/// What reads JSON, made to read it as Go does.
struct Go<D>(D);

/// The JSON that a type is read from; of all, `null` is the zero value.
#[derive(Clone, Copy)]
enum Kind {
    Any,
    Number,
    Text,
    Bool,
    List,
    /// With a struct's names; without any for a map, whose keys are data.
    Object(&'static [&'static str]),
}

macro_rules! of_kind {
    ($kind:expr => $($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.deserialize_any(Reading { kind: $kind, visitor })
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Go<D> {
    type Error = D::Error;

    of_kind!(Kind::Any => deserialize_any);
    of_kind!(Kind::Number => deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_i128 deserialize_u128 deserialize_f32 deserialize_f64);
    of_kind!(Kind::Text => deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
        deserialize_identifier);
    of_kind!(Kind::Bool => deserialize_bool);
    of_kind!(Kind::List => deserialize_seq);
    of_kind!(Kind::Object(&[]) => deserialize_map);

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(Reading { kind: Kind::Object(names), visitor })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(Maybe(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_ignored_any(IgnoredAny)?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_ignored_any(visitor)
    }
}

struct Reading<V> {
    kind: Kind,
    visitor: V,
}

macro_rules! visit {
    ($($method:ident($type:ty): $kind:path;)*) => {$(
        fn $method<E: de::Error>(self, value: $type) -> Result<V::Value, E> {
            match self.kind {
                Kind::Any | $kind => self.visitor.$method(value),
                _ => Err(E::custom("another kind of value")),
            }
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Reading<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    visit! {
        visit_bool(bool): Kind::Bool;
        visit_u64(u64): Kind::Number;
        visit_i64(i64): Kind::Number;
        visit_f64(f64): Kind::Number;
        visit_str(&str): Kind::Text;
        visit_borrowed_str(&'de str): Kind::Text;
        visit_string(String): Kind::Text;
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        match self.kind {
            Kind::Any => self.visitor.visit_unit(),
            Kind::Number => self.visitor.visit_u64(0),
            Kind::Text => self.visitor.visit_str(""),
            Kind::Bool => self.visitor.visit_bool(false),
            Kind::List => self.visitor.visit_seq(SeqDeserializer::<Empty<()>, E>::new(std::iter::empty())),
            Kind::Object(_) => {
                let nothing: Empty<((), ())> = std::iter::empty();
                self.visitor.visit_map(MapDeserializer::<_, E>::new(nothing))
            }
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<V::Value, A::Error> {
        match self.kind {
            Kind::Any | Kind::List => self.visitor.visit_seq(Items(list)),
            _ => Err(de::Error::custom("another kind of value")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<V::Value, A::Error> {
        match self.kind {
            Kind::Any => self.visitor.visit_map(Fields { object, names: &[] }),
            Kind::Object(names) => self.visitor.visit_map(Fields { object, names }),
            _ => Err(de::Error::custom("another kind of value")),
        }
    }
}

struct Maybe<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Maybe<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Go(value))
    }
}

/// What is inside is read as Go reads it, too.
struct Inside<T>(T);

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Inside<T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        self.0.deserialize(Go(deserializer))
    }
}

struct Items<A>(A);

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.0.next_element_seed(Inside(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

struct Fields<A> {
    object: A,
    names: &'static [&'static str],
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.object.next_key_seed(Name { names: self.names, seed })
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.object.next_value_seed(Inside(seed))
    }
}

/// A key, in the case that the struct has it in.
struct Name<K> {
    names: &'static [&'static str],
    seed: K,
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Name<K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<K::Value, D::Error> {
        key.deserialize_str(self)
    }
}

impl<'de, K: DeserializeSeed<'de>> Visitor<'de> for Name<K> {
    type Value = K::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<K::Value, E> {
        let known = self.names.iter().find(|name| name.eq_ignore_ascii_case(text));
        self.seed.deserialize(StrDeserializer::new(known.copied().unwrap_or(text)))
    }
}
