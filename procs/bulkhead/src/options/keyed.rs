//! `key=value,key,…`: the form of `--disk`, `--export` and `--cpu`.
//!
//! A comma inside a value is written twice, as in this field's other programs. A key that is not
//! known is refused with the nearest one that is.

use crate::refusal::refuse;

/// The parts of one option, taken out one by one; what is left at the end was not known.
#[derive(Debug)]
pub struct Keyed {
    option: String,
    text: String,
    parts: Vec<(String, Option<String>)>,
    known: Known,
}

/// Keys that there may be, by topics.
type Known = &'static [&'static [&'static str]];

impl Keyed {
    /// Splits `text`. `known` are the keys there may be.
    pub fn parse(option: &str, text: &str, known: Known) -> anyhow::Result<Self> {
        let mut keyed =
            Self { option: option.to_owned(), text: text.to_owned(), parts: Vec::new(), known };
        for part in split(text).into_iter().filter(|_| !text.is_empty()) {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (part, None),
            };
            if !keyed.knows(&key) {
                let reason = format!("'{key}' is not a key of it");
                return Err(keyed.refuse(&reason, &nearest(&key, &known.concat())));
            }
            if keyed.parts.iter().any(|(other, _)| *other == key) {
                return Err(keyed.refuse(&format!("'{key}' is given twice"), "give it once"));
            }
            keyed.parts.push((key, value));
        }
        Ok(keyed)
    }

    /// Takes the value of `key`.
    pub fn value(&mut self, key: &str) -> anyhow::Result<Option<String>> {
        debug_assert!(self.knows(key));
        match self.take(key) {
            None => Ok(None),
            Some(Some(value)) if !value.is_empty() => Ok(Some(value)),
            Some(_) => {
                Err(self.refuse(&format!("'{key}' has no value"), &format!("write {key}=…")))
            }
        }
    }

    /// Takes the value of `key`, which must be there.
    pub fn required(&mut self, key: &str) -> anyhow::Result<String> {
        match self.value(key)? {
            Some(value) => Ok(value),
            None => Err(self.refuse(&format!("'{key}' is missing"), &format!("add {key}=…"))),
        }
    }

    /// Takes a switch: `key`, `key=on` or `key=off`. It is off where it is not given.
    pub fn switch(&mut self, key: &str) -> anyhow::Result<bool> {
        Ok(self.choice(key)?.unwrap_or(false))
    }

    /// Takes a switch whose default is the caller's.
    pub fn choice(&mut self, key: &str) -> anyhow::Result<Option<bool>> {
        debug_assert!(self.knows(key));
        match self.take(key) {
            None => Ok(None),
            Some(None) => Ok(Some(true)),
            Some(Some(value)) => match value.as_str() {
                "on" | "true" => Ok(Some(true)),
                "off" | "false" => Ok(Some(false)),
                _ => Err(self
                    .refuse(&format!("'{key}={value}' is neither on nor off"), "write on or off")),
            },
        }
    }

    /// Takes a whole number from `least` to `most`.
    pub fn number(&mut self, key: &str, least: u32, most: u32) -> anyhow::Result<Option<u32>> {
        let Some(value) = self.value(key)? else {
            return Ok(None);
        };
        let option = format!("{} {key}", self.option);
        super::number::between(&option, &value, least, most).map(Some)
    }

    /// Refuses what nobody has taken: it goes with something that was not given.
    pub fn refuse_rest(&self) -> anyhow::Result<()> {
        match self.parts.first() {
            Some((key, _)) => {
                let reason = format!("'{key}' does not go with the rest");
                Err(self.refuse(&reason, "leave it out, or see 'bulkhead run --help'"))
            }
            None => Ok(()),
        }
    }

    /// A refusal of this whole option.
    pub fn refuse(&self, reason: &str, remedy: &str) -> anyhow::Error {
        refuse(&self.option, &self.text, reason, remedy)
    }

    fn knows(&self, key: &str) -> bool {
        self.known.iter().any(|topic| topic.contains(&key))
    }

    fn take(&mut self, key: &str) -> Option<Option<String>> {
        let at = self.parts.iter().position(|(other, _)| other == key)?;
        Some(self.parts.remove(at).1)
    }
}

fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let doubled = character == ',' && characters.next_if_eq(&',').is_some();
        match (character, parts.last_mut()) {
            (',', _) if !doubled => parts.push(String::new()),
            (_, Some(part)) => part.push(character),
            (_, None) => {}
        }
    }
    parts
}

/// What to do about an unknown word: the nearest known one, or all of them.
pub fn nearest(word: &str, known: &[&str]) -> String {
    let best = known
        .iter()
        .map(|name| (strsim::jaro_winkler(word, name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((score, name)) if score > 0.7 => format!("did you mean '{name}'?"),
        _ => format!("known are {}", known.join(", ")),
    }
}
