//! Numbers as a profile writes them: `64`, `"PROT_READ|PROT_WRITE"`, `"~(PROT_READ|PROT_WRITE)"`.

use serde::Deserialize;
use serde::de::Error;

use crate::constants;

/// A number, with the words that the profile has for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    words: String,
    bits: u64,
}

impl Value {
    /// The number. Complements and negative numbers are 64 bits wide; a comparison of 32 bits looks
    /// at the lower half.
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// As the profile writes it.
    pub fn words(&self) -> &str {
        &self.words
    }

    /// Reads names and numbers joined by `|`, the whole complemented by `~( )`.
    pub fn parse(words: &str) -> Result<Self, String> {
        let bits = match words.strip_prefix("~(").and_then(|rest| rest.strip_suffix(')')) {
            Some(inner) => !union(inner)?,
            None => union(words)?,
        };
        Ok(Self { words: words.to_owned(), bits })
    }
}

impl From<u64> for Value {
    fn from(bits: u64) -> Self {
        Self { words: bits.to_string(), bits }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}

fn union(words: &str) -> Result<u64, String> {
    words.split('|').try_fold(0, |bits, word| Ok(bits | one(word.trim())?))
}

fn one(word: &str) -> Result<u64, String> {
    let number = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    };
    number.or_else(|| constants::lookup(word)).ok_or_else(|| format!("unknown name {word:?}"))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(i64),
    Words(String),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Number(number) => {
                Ok(Self { words: number.to_string(), bits: number.cast_unsigned() })
            }
            Written::Words(words) => Self::parse(&words).map_err(D::Error::custom),
        }
    }
}
