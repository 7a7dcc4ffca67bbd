//! The two places that traffic can go.
//!
//! Exactly two, by design: then weights always add up and raising one lowers the other. A place is
//! not a role: which place is stable is a property of the split, and data-plane counts are kept by
//! place, so that they stay true when roles swap.

use std::fmt;
use std::ops::{Index, IndexMut};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A place: where one version of a service runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// The place called blue.
    Blue,
    /// The place called green.
    Green,
}

impl Variant {
    /// Both places, blue first.
    pub const ALL: [Self; 2] = [Self::Blue, Self::Green];

    /// The other place.
    pub const fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }

    /// `blue` or `green`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "blue" => Ok(Self::Blue),
            "green" => Ok(Self::Green),
            other => Err(format!("{other:?} is no variant; it is `blue` or `green`")),
        }
    }
}

/// What a variant is for at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What users get unless the split says otherwise.
    Stable,
    /// What is being tried.
    Candidate,
}

impl Role {
    /// `stable` or `candidate`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Candidate => "candidate",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One `T` for each variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct PerVariant<T> {
    /// Blue's.
    pub blue: T,
    /// Green's.
    pub green: T,
}

impl<T> PerVariant<T> {
    /// Makes one for each, blue first.
    pub fn from_fn(mut make: impl FnMut(Variant) -> T) -> Self {
        Self { blue: make(Variant::Blue), green: make(Variant::Green) }
    }

    /// Turns each into something else.
    pub fn map<U>(self, mut change: impl FnMut(Variant, T) -> U) -> PerVariant<U> {
        PerVariant { blue: change(Variant::Blue, self.blue), green: change(Variant::Green, self.green) }
    }

    /// Both with their places, blue first.
    pub fn iter(&self) -> impl Iterator<Item = (Variant, &T)> {
        Variant::ALL.into_iter().map(|variant| (variant, &self[variant]))
    }
}

impl<T> Index<Variant> for PerVariant<T> {
    type Output = T;

    fn index(&self, variant: Variant) -> &T {
        match variant {
            Variant::Blue => &self.blue,
            Variant::Green => &self.green,
        }
    }
}

impl<T> IndexMut<Variant> for PerVariant<T> {
    fn index_mut(&mut self, variant: Variant) -> &mut T {
        match variant {
            Variant::Blue => &mut self.blue,
            Variant::Green => &mut self.green,
        }
    }
}
