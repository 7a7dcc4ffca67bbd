//! Values as they stand in the file: their text, and the line it stands in.
//!
//! Nothing is interpreted while the YAML is read. A value that is wrong in itself, a share without `%`
//! for instance, would otherwise end the reading, and its reader would learn of one mistake at a time.
//! The text is interpreted in a second pass that collects (see [`super::problem`]).

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::scalar::Scalar;

/// One value of which a `T` can be read.
#[derive(Clone, Debug)]
pub(super) struct Written<T> {
    pub(super) text: String,
    pub(super) line: u64,
    of: PhantomData<fn() -> T>,
}

impl<T> Written<T> {
    pub(super) fn new(text: String, line: u64) -> Self {
        Self { text, line, of: PhantomData }
    }
}

impl<'de, T> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self::new(spanned.value, spanned.referenced.line()))
    }
}

impl<T: Scalar> JsonSchema for Written<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        std::any::type_name::<T>().into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

/// What may be written short, as one value, or as a list, or as a mapping. [`Never`] stands for a form
/// that a key does not have.
#[derive(Clone, Debug)]
pub(super) enum Short<S, I, M> {
    One(Written<S>),
    List(Vec<I>, u64),
    Mapping(M, u64),
}

/// One value, or a list of them.
pub(super) type List<T> = Short<T, Written<T>, Never>;

impl<S, I, M> Short<S, I, M> {
    pub(super) fn line(&self) -> u64 {
        match self {
            Self::One(written) => written.line,
            Self::List(_, line) | Self::Mapping(_, line) => *line,
        }
    }
}

impl<T> List<T> {
    pub(super) fn into_items(self) -> Vec<Written<T>> {
        match self {
            Self::One(item) => vec![item],
            Self::List(items, _) => items,
            Self::Mapping(never, _) => match never {},
        }
    }
}

impl<'de, S, I: Deserialize<'de>, M: Deserialize<'de>> Deserialize<'de> for Short<S, I, M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Shape<I, M>>::deserialize(deserializer)?;
        let line = spanned.referenced.line();
        Ok(match spanned.value {
            Shape::Scalar(text) => Self::One(Written::new(text, line)),
            Shape::List(items) => Self::List(items, line),
            Shape::Mapping(mapping) => Self::Mapping(mapping, line),
        })
    }
}

impl<S: Scalar, I: JsonSchema, M: JsonSchema> JsonSchema for Short<S, I, M> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}_or_{}_or_{}", std::any::type_name::<S>(), I::schema_name(), M::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut forms = Vec::new();
        if S::schema().as_bool() != Some(false) {
            forms.push(S::schema());
        }
        if I::schema_name() != Never::schema_name() {
            let item = generator.subschema_for::<I>();
            forms.push(json_schema!({ "type": "array", "items": item }));
        }
        if M::schema_name() != Never::schema_name() {
            forms.push(generator.subschema_for::<M>());
        }
        json_schema!({ "anyOf": forms })
    }
}

enum Shape<I, M> {
    Scalar(String),
    List(Vec<I>),
    Mapping(M),
}

impl<'de, I: Deserialize<'de>, M: Deserialize<'de>> Deserialize<'de> for Shape<I, M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor(PhantomData))
    }
}

struct ShapeVisitor<I, M>(PhantomData<(I, M)>);

impl<'de, I: Deserialize<'de>, M: Deserialize<'de>> Visitor<'de> for ShapeVisitor<I, M> {
    type Value = Shape<I, M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Shape::Scalar(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Shape::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Shape::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Shape::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Shape::Scalar(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Shape::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mapping: A) -> Result<Self::Value, A::Error> {
        M::deserialize(MapAccessDeserializer::new(mapping)).map(Shape::Mapping)
    }
}

/// A form that a key does not have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Never {}

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("a single value is expected here"))
    }
}

impl JsonSchema for Never {
    fn schema_name() -> Cow<'static, str> {
        "Never".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!(false)
    }
}

/// What has no single value.
impl Scalar for Never {
    fn read(_: &str) -> Result<Self, String> {
        Err("a list or a mapping (key: value) is expected here".to_owned())
    }

    fn schema() -> Schema {
        json_schema!(false)
    }
}

/// A mapping from names that people choose, in the order of the file. Names of services are stricter than others:
/// they stand in hosts, paths and file names.
#[derive(Clone, Debug)]
pub(super) struct Named<T, const LOOSE: bool = false>(pub(super) Vec<(Written<String>, T)>);

impl<'de, T: Deserialize<'de>, const LOOSE: bool> Deserialize<'de> for Named<T, LOOSE> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

struct NamedVisitor<T, const LOOSE: bool>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const LOOSE: bool> Visitor<'de> for NamedVisitor<T, LOOSE> {
    type Value = Named<T, LOOSE>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping from names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = mapping.next_entry()? {
            entries.push(entry);
        }
        Ok(Named(entries))
    }
}

impl<T: JsonSchema, const LOOSE: bool> JsonSchema for Named<T, LOOSE> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("named_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        let names = if LOOSE { "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$" } else { "^[a-z0-9][a-z0-9-]{0,62}$" };
        json_schema!({
            "type": "object",
            "minProperties": 1,
            "propertyNames": { "pattern": names },
            "additionalProperties": value,
        })
    }
}
