//! What the filter of a profile lets through, with numbers in place of names.
//!
//! Called by the build of `seccomp`, which turns it into BPF, and by the tests, which hold the BPF
//! against it.

use crate::rule::{Allowed, Answered, Rule};
use crate::{Manifest, ManifestError, numbers, profile};

/// One system call of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its number.
    pub number: i64,
    /// Its name.
    pub name: String,
    /// Tested first.
    pub hot: bool,
    /// Alternatives, one of which must hold; empty: any arguments.
    pub rules: Vec<Rule>,
    /// Answered with this error instead of being made.
    pub errno: Option<u16>,
}

impl Call {
    /// Whether it is let through with these arguments.
    pub fn admits(&self, arguments: &[u64; 6]) -> Result<bool, String> {
        if self.rules.is_empty() {
            return Ok(true);
        }
        for rule in &self.rules {
            if holds(rule, arguments)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn holds(rule: &Rule, arguments: &[u64; 6]) -> Result<bool, String> {
    for condition in rule {
        let argument = arguments.get(usize::from(condition.arg)).copied().unwrap_or(0);
        if !condition.holds(argument)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All calls of a profile's filter: its own, and those of the classes it passes its filter on to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Calls that are made, hot ones first, then by number.
    pub allowed: Vec<Call>,
    /// Calls that are answered.
    pub answered: Vec<Call>,
}

impl Filter {
    /// What the first of the two filters must not kill: the calls that are made and those that the
    /// second filter answers.
    pub fn survived(&self) -> Vec<Call> {
        let mut calls = self.allowed.clone();
        for answered in &self.answered {
            let bare = Call { errno: None, ..answered.clone() };
            merge(&mut calls, bare);
        }
        calls
    }
}

/// The filter of `manifest`.
pub fn of(manifest: &Manifest) -> Result<Filter, ManifestError> {
    let mut filter = Filter::default();
    for allowed in &manifest.syscall {
        add(&mut filter, manifest, allowed)?;
    }
    for name in &manifest.passes_on {
        let child = profile(name)?;
        for allowed in &child.syscall {
            add(&mut filter, manifest, allowed)?;
        }
        for answered in &child.errno {
            let tried = Allowed {
                name: answered.name.clone(),
                reason: answered.reason.clone(),
                hot: false,
                for_children: true,
                rules: answered.rules.clone(),
            };
            add(&mut filter, manifest, &tried)?;
        }
    }
    for answered in &manifest.errno {
        filter.answered.push(answer(manifest, answered)?);
    }
    filter.allowed.sort_by_key(|call| (!call.hot, call.number));
    Ok(filter)
}

fn add(filter: &mut Filter, manifest: &Manifest, new: &Allowed) -> Result<(), ManifestError> {
    let call = Call {
        number: number(manifest, &new.name)?,
        name: new.name.clone(),
        hot: new.hot,
        rules: new.rules.clone(),
        errno: None,
    };
    merge(&mut filter.allowed, call);
    Ok(())
}

/// Adds a call, or widens the one that is there by the rules of this one.
fn merge(calls: &mut Vec<Call>, new: Call) {
    match calls.iter_mut().find(|call| call.number == new.number) {
        None => calls.push(new),
        Some(call) => {
            call.hot |= new.hot;
            if call.rules.is_empty() || new.rules.is_empty() {
                call.rules.clear();
                return;
            }
            let fresh = new.rules.into_iter().filter(|rule| !call.rules.contains(rule));
            let fresh: Vec<Rule> = fresh.collect();
            call.rules.extend(fresh);
        }
    }
}

fn answer(manifest: &Manifest, answered: &Answered) -> Result<Call, ManifestError> {
    Ok(Call {
        number: number(manifest, &answered.name)?,
        name: answered.name.clone(),
        hot: false,
        rules: answered.rules.clone(),
        errno: u16::try_from(answered.errno.bits()).ok(),
    })
}

fn number(manifest: &Manifest, name: &str) -> Result<i64, ManifestError> {
    numbers::number(name).ok_or_else(|| ManifestError {
        profile: manifest.class.clone(),
        what: format!("{name} is no system call"),
    })
}
