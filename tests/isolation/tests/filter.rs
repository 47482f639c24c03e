//! The filter equals the file: every number and every argument rule, tried in the real jail.
//!
//! Each attempt is a fresh process: a call that is not in the profile must kill it by SIGSYS, one
//! that is must not. Arguments that no rule speaks about are nonsense, so that a call that is let
//! through does no harm.

use std::path::Path;

use bulkhead_isolation::attempt::Abi;
use bulkhead_isolation::verdict::{Court, TRAMPOLINES, Verdict, bad, good, is_survived};
use bulkhead_manifest::filter::{self, Filter};
use bulkhead_manifest::profile;
use bulkhead_protocol::class::ProcessClass;

fn court(class: ProcessClass) -> (Court, Filter) {
    let filter = filter::of(&profile(class.name()).unwrap()).unwrap();
    (Court::of(class, Path::new(env!("CARGO_BIN_EXE_isolation-probe"))), filter)
}

/// Tries numbers and says which were dealt with otherwise than the profile says.
fn numbers_of(class: ProcessClass) {
    let (mut court, filter) = court(class);
    let calls = filter.survived();
    for number in 0..=1024 {
        let call = calls.iter().find(|call| call.number == number);
        // With a rule, its own arguments are tried; the next test tries the others.
        let arguments = call.and_then(|call| call.rules.first()).map_or([u64::MAX; 6], good);
        let verdict = court.judge(Abi::Native, number, arguments);
        if TRAMPOLINES.contains(&number) {
            assert!(verdict.is_harmless(), "{class}: trampoline {number}: {verdict:?}");
            continue;
        }
        let killed = verdict == Verdict::Killed;
        assert_eq!(killed, call.is_none(), "{class}: call {number}: {verdict:?}");
    }
}

fn arguments_of(class: ProcessClass) {
    let (mut court, filter) = court(class);
    for call in filter.survived() {
        for rule in &call.rules {
            let arguments = good(rule);
            let verdict = court.judge(Abi::Native, call.number, arguments);
            assert_ne!(verdict, Verdict::Killed, "{class}: {} {arguments:x?}", call.name);
            let others = bad(&filter, &call, rule);
            assert!(others.len() >= 3, "{class}: {} {rule:?} refuses too little", call.name);
            for arguments in others {
                assert!(!is_survived(&filter, call.number, &arguments));
                let verdict = court.judge(Abi::Native, call.number, arguments);
                assert_eq!(verdict, Verdict::Killed, "{class}: {} {arguments:x?}", call.name);
            }
        }
    }
}

macro_rules! of_each_class {
    ($($class:ident $numbers:ident $arguments:ident,)*) => {
        $(
            #[test]
            fn $numbers() {
                numbers_of(ProcessClass::$class);
            }

            #[test]
            fn $arguments() {
                arguments_of(ProcessClass::$class);
            }
        )*

        #[test]
        fn no_class_is_left_out() {
            let tested = [$(ProcessClass::$class),*];
            assert!(bulkhead_isolation::jailed().all(|class| tested.contains(&class)));
        }
    };
}

of_each_class! {
    Control numbers_of_control arguments_of_control,
    Core numbers_of_core arguments_of_core,
    SoftCpu numbers_of_soft_cpu arguments_of_soft_cpu,
    SoftCpuJit numbers_of_soft_cpu_jit arguments_of_soft_cpu_jit,
    VhostBlk numbers_of_vhost_blk arguments_of_vhost_blk,
    VhostConsole numbers_of_vhost_console arguments_of_vhost_console,
    VhostRng numbers_of_vhost_rng arguments_of_vhost_rng,
    Gdb numbers_of_gdb arguments_of_gdb,
    BlockLayer numbers_of_block_layer arguments_of_block_layer,
    BlockTool numbers_of_block_tool arguments_of_block_tool,
    NbdServer numbers_of_nbd_server arguments_of_nbd_server,
    Sink numbers_of_sink arguments_of_sink,
}

#[test]
fn answered_calls_get_their_error_before_the_seal_and_death_after_it() {
    let (mut court, _) = court(ProcessClass::VhostRng);
    let launcher = filter::of(&profile("launcher").unwrap()).unwrap();
    assert!(launcher.answered.iter().any(|call| call.name == "clone3"));
    assert_eq!(court.judge(Abi::Native, 435, [u64::MAX; 6]), Verdict::Killed);
}

#[test]
fn x32_numbers_are_killed() {
    let (mut court, _) = court(ProcessClass::Core);
    for number in 0..=1024 {
        let verdict = court.judge(Abi::X32, number, [u64::MAX; 6]);
        assert_eq!(verdict, Verdict::Killed, "x32 call {number}");
    }
}

#[test]
fn i386_calls_are_killed() {
    let (mut court, _) = court(ProcessClass::Core);
    for number in 0..=1024 {
        let verdict = court.judge(Abi::I386, number, [u64::from(u32::MAX); 6]);
        assert_eq!(verdict, Verdict::Killed, "i386 call {number}");
    }
}

#[test]
fn foreign_numbers_are_killed_in_every_class() {
    for class in bulkhead_isolation::jailed() {
        let (mut court, filter) = court(class);
        for call in filter.allowed.iter().take(4) {
            for abi in [Abi::X32, Abi::I386] {
                let verdict = court.judge(abi, call.number, [0; 6]);
                assert_eq!(verdict, Verdict::Killed, "{class}: {abi:?} {}", call.number);
            }
        }
    }
}
