//! The profiles as they are, and profiles that must be refused.

use super::*;
use crate::rule::Comparison;
use crate::value::Value;
use crate::waits::{Waits, cycle};

/// A lawful profile to be spoiled.
const LAWFUL: &str = r#"
class = "sink"
job = "Keeps output."
namespaces = ["user", "pid", "mount", "net", "ipc", "uts", "cgroup"]
capabilities = "none"
landlock = "deny-all"
guest_memory = { extent = "none" }
waits_for = []

[restart]
on_death = "successor"
reason = "a successor goes on"

[[syscall]]
name = "read"
reason = "to read"

[[syscall]]
name = "mmap"
rules = [[{ arg = 2, width = 64, mask = "~(PROT_READ|PROT_WRITE)", eq = 0 }]]
reason = "to map"
"#;

fn fault(from: &str, to: &str) -> String {
    let spoiled = LAWFUL.replacen(from, to, 1);
    assert_ne!(spoiled, LAWFUL, "{from} is not in the profile");
    Manifest::parse("sink", &spoiled).expect_err("the profile is refused").to_string()
}

#[test]
fn every_profile_is_lawful() {
    let parsed = PROFILES.iter().map(|(name, text)| Manifest::parse(name, text));
    let faults: Vec<String> = parsed.filter_map(|p| p.err().map(|e| e.to_string())).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_profile_to_be_spoiled_is_lawful_itself() {
    Manifest::parse("sink", LAWFUL).unwrap();
}

#[test]
fn unknown_keys_and_names_are_refused() {
    assert!(fault("job =", "jobs = 1\njob =").contains("jobs"));
    assert!(fault("name = \"read\"", "name = \"reed\"").contains("reed is no system call"));
    assert!(fault("PROT_READ", "PROT_REED").contains("PROT_REED"));
    assert!(fault("\"user\"", "\"users\"").contains("users"));
}

#[test]
fn a_line_without_a_reason_is_refused() {
    assert!(fault("reason = \"to read\"", "reason = \" \"").contains("read has no reason"));
    assert!(fault("reason = \"to read\"", "").contains("reason"));
}

#[test]
fn a_rule_that_leaves_the_selecting_argument_open_is_refused() {
    let rules = r#"rules = [[{ arg = 2, width = 64, mask = "~(PROT_READ|PROT_WRITE)", eq = 0 }]]"#;
    assert!(fault(rules, "").contains("every rule must say what argument 2 may be"));
    let other = r#"rules = [[{ arg = 3, eq = "MAP_SHARED" }]]"#;
    assert!(fault(rules, other).contains("every rule must say what argument 2 may be"));
    for call in ["ioctl", "mprotect", "fcntl", "madvise", "prctl", "clone", "futex", "sendmsg"] {
        let named = format!("name = \"{call}\"");
        assert!(fault("name = \"read\"", &named).contains("every rule must say"), "{call}");
    }
}

#[test]
fn executable_memory_is_refused_however_it_is_written() {
    for rule in [
        r#"{ arg = 2, eq = "PROT_READ|PROT_EXEC" }"#,
        r#"{ arg = 2, mask = "PROT_WRITE", eq = 0 }"#,
        r#"{ arg = 2, le = 7 }"#,
        r#"{ arg = 2, ne = "PROT_EXEC" }"#,
    ] {
        let old = r#"{ arg = 2, width = 64, mask = "~(PROT_READ|PROT_WRITE)", eq = 0 }"#;
        assert!(fault(old, rule).contains("mmap could make memory executable"), "{rule}");
    }
}

#[test]
fn calls_that_no_sealed_process_has_are_refused() {
    for call in ["execve", "openat", "connect", "ptrace", "clone3", "io_uring_setup", "kill", "bpf"]
    {
        let found = fault("name = \"read\"", &format!("name = \"{call}\""));
        assert!(found.contains(&format!("{call} is forbidden to this class")), "{found}");
    }
    let others = "name = \"tgkill\"\nrules = [[{ arg = 0, ne = 0 }]]";
    assert!(fault("name = \"read\"", others).contains("tgkill could reach another process"));
}

#[test]
fn a_budget_is_kept_or_its_breach_has_a_reason() {
    let calls = numbers::TABLE.iter().filter(|(name, _)| name.starts_with('g')).take(25);
    let more: String = calls
        .map(|(name, _)| format!("[[syscall]]\nname = \"{name}\"\nreason = \"r\"\n"))
        .collect();
    let long = format!("{LAWFUL}{more}");
    let found = Manifest::parse("sink", &long).unwrap_err().to_string();
    assert!(found.contains("27 system calls, budget 20"), "{found}");
    let reasoned = long.replacen("job =", "over_budget = \"because\"\njob =", 1);
    Manifest::parse("sink", &reasoned).unwrap();
    assert!(fault("job =", "over_budget = \"because\"\njob =").contains("within the budget"));
}

#[test]
fn a_missing_layer_needs_a_reason() {
    assert!(fault("\"deny-all\"", "\"none\"").contains("weaker_because"));
    assert!(fault("\"net\", ", "").contains("weaker_because"));
}

#[test]
fn a_call_is_listed_once() {
    let twice = "name = \"read\"\nreason = \"x\"\n[[syscall]]\nname = \"read\"";
    assert!(fault("name = \"read\"", twice).contains("read is there twice"));
}

#[test]
fn values_are_unions_of_names_and_numbers_or_the_complement_of_one() {
    let bits = |words| Value::parse(words).map(|value| value.bits());
    assert_eq!(bits("PROT_READ|PROT_WRITE"), Ok(3));
    assert_eq!(bits("0x10 | 1"), Ok(17));
    assert_eq!(bits("~(PROT_READ|2)"), Ok(!3));
    assert!(bits("PROT_READ|").is_err());
    assert!(bits("").is_err());
}

#[test]
fn a_condition_has_one_comparison_and_a_mask_only_with_eq() {
    let condition = |text: &str| toml::from_str::<rule::Condition>(text).unwrap();
    let masked = condition("arg = 1\nmask = 12\neq = 4").comparison();
    assert_eq!(masked, Ok(Comparison::MaskedEqual(12, 4)));
    assert!(condition("arg = 1").comparison().is_err());
    assert!(condition("arg = 1\neq = 1\nne = 2").comparison().is_err());
    assert!(condition("arg = 1\nmask = 3\nle = 2").comparison().is_err());
    assert!(condition("arg = 1\nmask = 3\neq = 4").comparison().is_err());
    assert!(condition("arg = 6\neq = 1").comparison().is_err());
}

/// Who waits for whom, as the profiles say.
fn waits() -> Waits {
    let profiles = CLASSES.iter().map(|class| profile(class).unwrap());
    profiles.map(|manifest| (manifest.class, manifest.waits_for)).collect()
}

#[test]
fn nobody_waits_in_a_circle() {
    let mut graph = waits();
    // The command is no process of an instance, but it waits as well.
    graph.insert("bulkhead".into(), vec!["control".into()]);
    assert_eq!(cycle(&graph), None);
}

#[test]
fn a_circle_would_be_found() {
    let mut graph = waits();
    graph.entry("block-layer".into()).or_default().push("vhost-blk".into());
    let found = cycle(&graph).expect("a circle");
    assert_eq!(found.len(), 2);
    graph = Waits::from([("core".into(), vec!["core".into()])]);
    assert_eq!(cycle(&graph), Some(vec!["core"]));
}

#[test]
fn the_wait_graph_is_the_one_that_was_decided() {
    let graph = waits();
    let edges: Vec<(&str, &str)> = graph
        .iter()
        .flat_map(|(from, to)| to.iter().map(move |to| (from.as_str(), to.as_str())))
        .collect();
    let decided = [
        ("control", "supervisor"),
        ("gdb", "core"),
        ("nbd-server", "block-layer"),
        ("vhost-blk", "block-layer"),
    ];
    assert_eq!(edges, decided);
}

#[test]
fn guest_memory_is_mapped_only_where_it_is_served() {
    for class in CLASSES {
        let extent = profile(class).unwrap().guest_memory.extent;
        let expected = match *class {
            "core" | "soft-cpu" | "soft-cpu-jit" => Extent::All,
            "vhost-blk" | "vhost-console" | "vhost-rng" => Extent::Granted,
            _ => Extent::None,
        };
        assert_eq!(extent, expected, "{class}");
    }
}

#[test]
fn code_is_made_at_run_time_by_one_class_only() {
    for class in CLASSES {
        let makes = profile(class).unwrap().code_memory.is_some();
        assert_eq!(makes, *class == "soft-cpu-jit", "{class}");
    }
    let text = text("soft-cpu").unwrap();
    let claims =
        text.replace("[cgroup]", "[code_memory]\nmost = 8\nreason = \"why not\"\n\n[cgroup]");
    let error = Manifest::parse("soft-cpu", &claims).unwrap_err().to_string();
    assert!(error.contains("code_memory is forbidden to this class"), "{error}");
}

/// Both are what they are for the same reasons; only one of them has been given code memory.
#[test]
fn the_compiling_class_differs_from_the_other_by_its_code_memory() {
    let (plain, compiling) = (text("soft-cpu").unwrap(), text("soft-cpu-jit").unwrap());
    let differing = compiling.lines().filter(|line| !plain.lines().any(|other| other == *line));
    let about: Vec<&str> = differing.filter_map(|line| line.split([' ', ']']).next()).collect();
    assert_eq!(about, ["#", "class", "job", "[code_memory", "most", "reason"]);
}

#[test]
fn a_thread_may_do_nothing_that_its_process_may_not() {
    for (thread, process) in THREADS {
        let of = |name: &str| filter::of(&profile(name).unwrap()).unwrap();
        let (inner, outer) = (of(thread), of(process));
        for call in &inner.allowed {
            let wider = outer.allowed.iter().find(|other| other.number == call.number);
            let wider = wider.unwrap_or_else(|| panic!("{process} has no {}", call.name));
            let covered =
                wider.rules.is_empty() || call.rules.iter().all(|rule| wider.rules.contains(rule));
            assert!(covered, "{thread} may do more with {} than {process}", call.name);
        }
    }
}

#[test]
fn every_call_that_must_never_be_dropped_is_there() {
    let needed = ["sched_yield", "clock_gettime", "restart_syscall", "exit_group"];
    for class in CLASSES {
        let manifest = profile(class).unwrap();
        for call in needed {
            assert!(manifest.syscall.iter().any(|s| s.name == call), "{class} lacks {call}");
        }
    }
}
