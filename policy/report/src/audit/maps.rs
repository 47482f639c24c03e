//! What does it map? Executable memory and guest memory.

use bulkhead_manifest::{Extent, Manifest};

use super::{Answer, Subject, proc};

/// Name of guest memory in `/proc/PID/maps`.
const GUEST_RAM: &str = "/memfd:guest-ram";

/// The answers.
pub fn check(subject: &Subject, manifest: &Manifest) -> Vec<Answer> {
    let Some(maps) = proc::read(subject.pid, "maps") else {
        return vec![Answer::hidden("executable memory"), Answer::hidden("guest memory")];
    };
    if maps.is_empty() {
        return vec![Answer::hidden("executable memory"), Answer::hidden("guest memory")];
    }
    vec![executable(&maps, manifest), guest(&maps, manifest)]
}

/// Name of shared anonymous memory, which code memory is, in `/proc/PID/maps`.
const CODE_MEMORY: &str = "/dev/zero";

/// Program text may be executed: read-only, private, from the one file that was exec'd. Beside it, code
/// memory where it is declared: shared with its other mapping, and not to be written through this one.
fn executable(maps: &str, manifest: &Manifest) -> Answer {
    let most = manifest.code_memory.as_ref().map_or(0, |code| code.most);
    let mut memories = 0;
    let mut files = std::collections::BTreeSet::new();
    let mut faults = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let name = words.nth(3).unwrap_or_default();
        if !rights.contains('x') || matches!(name, "[vdso]" | "[vsyscall]") {
            continue;
        }
        if (rights, name) == ("r-xs", CODE_MEMORY) && memories < most {
            memories += 1;
            continue;
        }
        if rights != "r-xp"
            || name.is_empty()
            || name.starts_with('[')
            || name.starts_with("/memfd:")
        {
            faults.push(format!("{range} {rights} {name}"));
        }
        files.insert(name);
    }
    if files.len() > 1 {
        faults.push(format!("text of {} files", files.len()));
    }
    match faults.is_empty() {
        true if memories > 0 => {
            let detail = format!("its own text, and {memories} code memories of {most} declared");
            Answer::compare("executable memory", true, detail)
        }
        true => Answer::compare("executable memory", true, "its own text only"),
        false => Answer::compare("executable memory", false, faults.join("; ")),
    }
}

fn guest(maps: &str, manifest: &Manifest) -> Answer {
    let mapped = maps.lines().filter(|line| line.contains(GUEST_RAM)).count();
    let detail = format!("{mapped} mappings, declared: {:?}", manifest.guest_memory.extent);
    let holds = manifest.guest_memory.extent != Extent::None || mapped == 0;
    Answer::compare("guest memory", holds, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Verdict;

    const TEXT: &str = "7f0000000000-7f0000001000 r-xp 00000000 00:01 5 /bin/bulkhead-vhost-rng\n";

    #[test]
    fn text_and_vdso_are_all_that_may_be_executed() {
        let vdso = "7f1000000000-7f1000001000 r-xp 00000000 00:00 0 [vdso]\n";
        let manifest = bulkhead_manifest::profile("soft-cpu").unwrap();
        let executable = |maps: &str| executable(maps, &manifest);
        assert_eq!(executable(&format!("{TEXT}{vdso}")).verdict, Verdict::AsDeclared);
        let heap = "55d000000000-55d000001000 rwxp 00000000 00:00 0 [heap]\n";
        assert_eq!(executable(&format!("{TEXT}{heap}")).verdict, Verdict::Deviation);
        let code = "7f2000000000-7f2000001000 r-xp 00000000 00:01 9 /memfd:code (deleted)\n";
        assert_eq!(executable(&format!("{TEXT}{code}")).verdict, Verdict::Deviation);
    }

    #[test]
    fn code_memory_where_none_is_declared_is_a_deviation_and_so_is_too_much_or_one_to_write() {
        let verdict = |class: &str, rights: &str, count: usize| {
            let line =
                format!("7f2000000000-7f2002000000 {rights} 0 00:01 9 /dev/zero (deleted)\n");
            let manifest = bulkhead_manifest::profile(class).unwrap();
            executable(&format!("{TEXT}{}", line.repeat(count)), &manifest).verdict
        };
        assert_eq!(verdict("soft-cpu-jit", "r-xs", 8), Verdict::AsDeclared);
        assert_eq!(verdict("soft-cpu-jit", "r-xs", 9), Verdict::Deviation);
        assert_eq!(verdict("soft-cpu-jit", "rwxs", 1), Verdict::Deviation);
        assert_eq!(verdict("soft-cpu", "r-xs", 1), Verdict::Deviation);
        assert_eq!(verdict("soft-cpu", "rw-s", 1), Verdict::AsDeclared);
    }

    #[test]
    fn guest_memory_where_none_is_declared_is_a_deviation() {
        let manifest = bulkhead_manifest::profile("block-layer").unwrap();
        let ram = "7f3000000000-7f3100000000 rw-s 00000000 00:01 9 /memfd:guest-ram (deleted)\n";
        assert_eq!(guest(ram, &manifest).verdict, Verdict::Deviation);
        assert_eq!(guest(TEXT, &manifest).verdict, Verdict::AsDeclared);
    }
}
