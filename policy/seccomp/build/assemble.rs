//! From a profile's filter to instructions.
//!
//! `seccompiler` has one action for all that matches, so that "an error for this, death for the
//! rest" takes two programs: `kill` lets through what is made or answered and kills for the rest;
//! `errno` answers and lets the rest through. The kernel takes the stricter verdict.
//!
//! `seccompiler` tests the calls in the order of their numbers. A hot call shall be found sooner, so
//! the hot calls are compiled by themselves and their tests put before the others': each call's
//! block ends in a verdict, and a call that is not the block's own falls through with its number
//! still loaded.

use std::collections::BTreeMap;
use std::error::Error;

use bulkhead_manifest::filter::{Call, Filter};
use bulkhead_manifest::rule::{Comparison, Condition, Rule, Width};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

/// Instructions before the first call's block: load the architecture, test it, kill; load the number.
const PROLOGUE: usize = 4;

/// Instructions after the last call's block: the default verdict.
const EPILOGUE: usize = 1;

/// A call by number with its compiled rules.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The program that kills.
pub fn kill(filter: &Filter) -> Result<BpfProgram, Box<dyn Error>> {
    let survived = filter.survived();
    let (hot, cold): (Vec<&Call>, Vec<&Call>) = survived.iter().partition(|call| call.hot);
    let action = SeccompAction::KillProcess;
    let front = compile(&hot, action.clone(), SeccompAction::Allow)?;
    let back = compile(&cold, action, SeccompAction::Allow)?;
    if hot.is_empty() { Ok(back) } else { splice(front, &back) }
}

/// The program that answers, if anything is answered. Its parts, one for each error number, are put
/// behind one another like the hot and the cold calls.
pub fn errno(filter: &Filter) -> Result<Option<BpfProgram>, Box<dyn Error>> {
    let mut by_number: BTreeMap<u16, Vec<&Call>> = BTreeMap::new();
    for call in &filter.answered {
        let number = call.errno.ok_or("an answered call has an errno")?;
        by_number.entry(number).or_default().push(call);
    }
    let mut whole = None;
    for (number, calls) in by_number {
        let answer = SeccompAction::Errno(u32::from(number));
        let part = compile(&calls, SeccompAction::Allow, answer)?;
        whole = Some(match whole {
            None => part,
            Some(front) => splice(front, &part)?,
        });
    }
    Ok(whole)
}

fn compile(
    calls: &[&Call],
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, Box<dyn Error>> {
    let mut rules = Rules::new();
    for call in calls {
        let compiled: Result<Vec<_>, _> = call.rules.iter().map(|rule| self::rule(rule)).collect();
        rules.insert(call.number, compiled?);
    }
    let filter = SeccompFilter::new(rules, otherwise, matched, TargetArch::x86_64)?;
    Ok(filter.try_into()?)
}

/// Puts the blocks of `back` behind those of `front`, which must not be about the same calls.
fn splice(front: BpfProgram, back: &[sock_filter]) -> Result<BpfProgram, Box<dyn Error>> {
    let body = front.len().checked_sub(EPILOGUE).ok_or("a program has a default")?;
    let rest = back.get(PROLOGUE..).ok_or("a program has a prologue")?;
    let mut whole = front;
    whole.truncate(body);
    whole.extend_from_slice(rest);
    Ok(whole)
}

fn rule(rule: &Rule) -> Result<SeccompRule, Box<dyn Error>> {
    let conditions: Result<Vec<_>, _> = rule.iter().map(condition).collect();
    Ok(SeccompRule::new(conditions?)?)
}

fn condition(condition: &Condition) -> Result<SeccompCondition, Box<dyn Error>> {
    let width = match condition.width {
        Width::Int => SeccompCmpArgLen::Dword,
        Width::Long => SeccompCmpArgLen::Qword,
    };
    let (operator, value) = match condition.comparison()? {
        Comparison::MaskedEqual(mask, value) => (SeccompCmpOp::MaskedEq(mask), value),
        Comparison::Equal(value) => (SeccompCmpOp::Eq, value),
        Comparison::NotEqual(value) => (SeccompCmpOp::Ne, value),
        Comparison::Less(value) => (SeccompCmpOp::Lt, value),
        Comparison::AtMost(value) => (SeccompCmpOp::Le, value),
        Comparison::Greater(value) => (SeccompCmpOp::Gt, value),
        Comparison::AtLeast(value) => (SeccompCmpOp::Ge, value),
    };
    Ok(SeccompCondition::new(condition.arg, width, operator, value)?)
}
