//! The programs against the profiles: nothing more, nothing less.

use bulkhead_manifest::filter::{self, Call, Filter};
use bulkhead_manifest::rule::{Comparison, Condition};
use bulkhead_manifest::{PROFILES, profile};

use crate::interpreter::{Data, run};
use crate::{Program, program};

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const X32: u32 = 0x4000_0000;

const KILL: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
const ALLOW: u32 = 0x7fff_0000;

/// What the kernel makes of all filters of a program: the strictest verdict.
fn verdict(program: &Program, data: &Data) -> u32 {
    let verdicts: Vec<u32> = program.filters().map(|filter| run(filter, data)).collect();
    for strict in [KILL, ERRNO] {
        if let Some(found) = verdicts.iter().find(|v| **v & 0xffff_0000 == strict) {
            return *found;
        }
    }
    ALLOW
}

fn call(number: i64, arguments: [u64; 6]) -> Data {
    Data { number: number as u32, architecture: X86_64, arguments }
}

fn every(mut check: impl FnMut(&str, &Filter, &Program)) {
    for (name, _) in PROFILES {
        let filter = filter::of(&profile(name).unwrap()).unwrap();
        check(name, &filter, program(name).unwrap());
    }
}

/// What the profile says of a call.
fn wanted(filter: &Filter, number: i64, arguments: &[u64; 6]) -> u32 {
    let find = |calls: &[Call]| -> Option<Call> {
        calls.iter().find(|call| call.number == number).cloned()
    };
    let answered = find(&filter.answered).filter(|call| call.admits(arguments).unwrap());
    if let Some(call) = answered {
        return ERRNO | u32::from(call.errno.unwrap());
    }
    match find(&filter.allowed) {
        Some(call) if call.admits(arguments).unwrap() => ALLOW,
        _ => KILL,
    }
}

/// Arguments that satisfy a whole rule.
fn good(rule: &[Condition]) -> [u64; 6] {
    let mut arguments = [0; 6];
    for condition in rule {
        let value = match condition.comparison().unwrap() {
            Comparison::MaskedEqual(_, value) | Comparison::Equal(value) => value,
            Comparison::NotEqual(value) => value.wrapping_add(1),
            Comparison::Less(value) => value - 1,
            Comparison::AtMost(value) | Comparison::AtLeast(value) => value,
            Comparison::Greater(value) => value + 1,
        };
        arguments[usize::from(condition.arg)] = value;
    }
    arguments
}

/// Values at and around a condition's border, and far from it.
fn neighbours(condition: &Condition) -> Vec<u64> {
    let (value, mask) = match condition.comparison().unwrap() {
        Comparison::MaskedEqual(mask, value) => (value, mask),
        Comparison::Equal(v)
        | Comparison::NotEqual(v)
        | Comparison::Less(v)
        | Comparison::AtMost(v)
        | Comparison::Greater(v)
        | Comparison::AtLeast(v) => (v, 0),
    };
    let mut values = vec![0, 4, 7, u64::from(u32::MAX), u64::MAX, !value, value ^ (1 << 32), mask];
    values.extend([value.wrapping_sub(1), value.wrapping_add(1), value | mask]);
    values.extend((0..64).map(|bit| value ^ (1 << bit)));
    values
}

#[test]
fn every_number_gets_the_verdict_of_its_profile() {
    every(|name, filter, program| {
        for number in 0..=1024 {
            for arguments in [[0; 6], [u64::MAX; 6], [1, 2, 3, 4, 5, 6]] {
                let found = verdict(program, &call(number, arguments));
                let wanted = wanted(filter, number, &arguments);
                assert_eq!(found, wanted, "{name}: call {number} with {arguments:x?}");
            }
        }
    });
}

#[test]
fn foreign_architectures_and_x32_numbers_are_killed() {
    every(|name, _, program| {
        for number in 0..=1024 {
            let foreign = Data { number, architecture: I386, arguments: [0; 6] };
            assert_eq!(verdict(program, &foreign), KILL, "{name}: i386 call {number}");
            let x32 = Data { number: number | X32, architecture: X86_64, arguments: [0; 6] };
            assert_eq!(verdict(program, &x32), KILL, "{name}: x32 call {number}");
        }
    });
}

#[test]
fn each_rule_lets_its_arguments_through_and_refuses_at_least_three_others() {
    every(|name, filter, program| {
        for allowed in filter.survived() {
            for rule in &allowed.rules {
                check_rule(name, filter, program, allowed.number, rule);
            }
        }
    });
}

fn check_rule(name: &str, filter: &Filter, program: &Program, number: i64, rule: &[Condition]) {
    let arguments = good(rule);
    assert_ne!(verdict(program, &call(number, arguments)), KILL, "{name}: {number} {rule:?}");
    let mut refused = 0;
    for condition in rule {
        for value in neighbours(condition) {
            let mut tried = arguments;
            tried[usize::from(condition.arg)] = value;
            let found = verdict(program, &call(number, tried));
            let wanted = wanted(filter, number, &tried);
            assert_eq!(found, wanted, "{name}: call {number} with {tried:x?}");
            refused += u32::from(found == KILL);
        }
    }
    assert!(refused >= 3, "{name}: call {number} is refused in {refused} cases only");
}

#[test]
fn hot_calls_are_tested_before_all_others() {
    every(|name, filter, program| {
        let tests = program.kill.iter().skip(4).filter(|at| at.code == 0x15);
        let numbers: Vec<i64> = tests.map(|at| i64::from(at.k)).collect();
        let place = |number: i64| numbers.iter().position(|at| *at == number).unwrap();
        let hot = filter.allowed.iter().filter(|call| call.hot).map(|call| place(call.number));
        let last_hot = hot.max().unwrap_or(0);
        let cold = filter.allowed.iter().filter(|call| !call.hot && call.rules.is_empty());
        for call in cold {
            assert!(place(call.number) >= last_hot, "{name}: {} comes early", call.name);
        }
    });
}

/// But for the two engines, which differ in their memory and not in their calls.
#[test]
fn programs_of_different_profiles_have_different_fingerprints() {
    let mut prints: Vec<u64> = crate::programs().iter().map(Program::fingerprint).collect();
    prints.sort_unstable();
    prints.dedup();
    assert_eq!(prints.len(), PROFILES.len() - 1);
    let print = |name| crate::program(name).map(Program::fingerprint);
    assert_eq!(print("soft-cpu"), print("soft-cpu-jit"));
}
