//! System calls, and what their arguments must be.

use serde::Deserialize;

use crate::value::Value;

/// A system call that is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// Its name, as `man 2` has it.
    pub name: String,
    /// What it is needed for.
    pub reason: String,
    /// Tested first in the filter: it is made for every request.
    #[serde(default)]
    pub hot: bool,
    /// Not the process's own need, but its children's between fork and seal; see
    /// [`crate::Manifest::passes_on`].
    #[serde(default)]
    pub for_children: bool,
    /// Alternatives, one of which must hold; empty: any arguments.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// A system call that is answered with an error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// Its name.
    pub name: String,
    /// The error (`ENOSYS`).
    pub errno: Value,
    /// Who tries it, and why death would be too much.
    pub reason: String,
    /// Alternatives, one of which must hold for the answer; empty: any arguments.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// Conditions on the arguments of one call, all of which must hold.
pub type Rule = Vec<Condition>;

/// A condition on one argument. Exactly one of the comparisons is given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Which argument, from 0.
    pub arg: u8,
    /// Bits of the argument that the kernel looks at: 32 (`int`) or 64 (`long`, pointers).
    #[serde(default)]
    pub width: Width,
    /// Bits that are compared by `eq`; all, if absent.
    #[serde(default)]
    pub mask: Option<Value>,
    /// It equals.
    #[serde(default)]
    pub eq: Option<Value>,
    /// It differs.
    #[serde(default)]
    pub ne: Option<Value>,
    /// It is less.
    #[serde(default)]
    pub lt: Option<Value>,
    /// It is less or equal.
    #[serde(default)]
    pub le: Option<Value>,
    /// It is greater.
    #[serde(default)]
    pub gt: Option<Value>,
    /// It is greater or equal.
    #[serde(default)]
    pub ge: Option<Value>,
}

/// Width of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "u8")]
pub enum Width {
    /// The lower 32 bits; the kernel ignores the others.
    #[default]
    Int,
    /// All 64.
    Long,
}

impl TryFrom<u8> for Width {
    type Error = String;

    fn try_from(bits: u8) -> Result<Self, String> {
        match bits {
            32 => Ok(Self::Int),
            64 => Ok(Self::Long),
            other => Err(format!("width is 32 or 64, not {other}")),
        }
    }
}

/// A comparison with resolved numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `argument & mask == value`.
    MaskedEqual(u64, u64),
    /// `argument == value`.
    Equal(u64),
    /// `argument != value`.
    NotEqual(u64),
    /// `argument < value`.
    Less(u64),
    /// `argument <= value`.
    AtMost(u64),
    /// `argument > value`.
    Greater(u64),
    /// `argument >= value`.
    AtLeast(u64),
}

impl Condition {
    /// The comparison, or what is wrong with it.
    pub fn comparison(&self) -> Result<Comparison, String> {
        if self.arg > 5 {
            return Err(format!("argument {} does not exist", self.arg));
        }
        let given = [
            self.eq.as_ref().map(|v| Comparison::Equal(v.bits())),
            self.ne.as_ref().map(|v| Comparison::NotEqual(v.bits())),
            self.lt.as_ref().map(|v| Comparison::Less(v.bits())),
            self.le.as_ref().map(|v| Comparison::AtMost(v.bits())),
            self.gt.as_ref().map(|v| Comparison::Greater(v.bits())),
            self.ge.as_ref().map(|v| Comparison::AtLeast(v.bits())),
        ];
        let mut given = given.into_iter().flatten();
        let (Some(comparison), None) = (given.next(), given.next()) else {
            return Err(format!("argument {} needs exactly one comparison", self.arg));
        };
        match (self.mask.as_ref(), comparison) {
            (None, comparison) => Ok(comparison),
            (Some(mask), Comparison::Equal(value)) => masked(mask.bits(), value)
                .ok_or_else(|| format!("argument {}: eq has bits that mask has not", self.arg)),
            (Some(_), _) => Err(format!("argument {}: a mask goes with eq only", self.arg)),
        }
    }

    /// Whether `argument` satisfies it.
    pub fn holds(&self, argument: u64) -> Result<bool, String> {
        let cut = |value: u64| match self.width {
            Width::Int => value & u64::from(u32::MAX),
            Width::Long => value,
        };
        let argument = cut(argument);
        Ok(match self.comparison()? {
            Comparison::MaskedEqual(mask, value) => argument & cut(mask) == cut(value),
            Comparison::Equal(value) => argument == cut(value),
            Comparison::NotEqual(value) => argument != cut(value),
            Comparison::Less(value) => argument < cut(value),
            Comparison::AtMost(value) => argument <= cut(value),
            Comparison::Greater(value) => argument > cut(value),
            Comparison::AtLeast(value) => argument >= cut(value),
        })
    }
}

fn masked(mask: u64, value: u64) -> Option<Comparison> {
    (value & !mask == 0).then_some(Comparison::MaskedEqual(mask, value))
}
