//! Programs people use print in the guest what they print on a CPU of silicon.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bulkhead_userland::Guest;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The guest's scripts, and a file that this host's xz compressed.
fn second_disk() -> tempfile::TempDir {
    let disk = tempfile::tempdir().expect("a folder");
    let copied =
        Command::new("cp").arg("-r").arg(folder("guest/programs/.")).arg(disk.path()).status();
    assert!(copied.expect("cp starts").success());
    let out = std::fs::File::create(disk.path().join("host.xz")).expect("a file");
    let mut xz = Command::new("xz");
    let mut xz = xz.arg("-c").stdin(Stdio::piped()).stdout(out).spawn().expect("xz starts");
    let mut plain = xz.stdin.take().expect("a pipe");
    for number in 1..=30_000 {
        writeln!(plain, "{number}").expect("xz reads");
    }
    drop(plain);
    assert!(xz.wait().expect("a status").success());
    disk
}

/// What `apt.sh` must print, read from the image's own database: the version of apt, then every
/// installed package.
fn packages(status: &str) -> Vec<String> {
    let field = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map(str::to_owned)
    };
    let installed = status.split("\n\n").filter(|package| {
        field(package, "Status").is_some_and(|status| status == "install ok installed")
    });
    let mut lines: Vec<String> = installed
        .filter_map(|package| {
            Some(format!("{} {}", field(package, "Package")?, field(package, "Version")?))
        })
        .collect();
    let apt = lines.iter().find_map(|line| line.strip_prefix("apt ")).expect("apt is there");
    lines.push(format!("apt {apt} (amd64)"));
    lines.push("changed files: 0".to_owned());
    lines.sort();
    lines
}

fn compare(guest: &Guest, name: &str) -> Option<String> {
    let (said, exit) =
        (guest.read(&format!("/out/{name}")), guest.read(&format!("/out/{name}.exit")));
    let right = std::fs::read_to_string(folder("answers").join(name)).expect("its answer");
    let wrong = said.lines().zip(right.lines()).find(|(said, right)| said != right);
    (said != right || exit != "0\n").then(|| {
        let complaints = guest.read(&format!("/out/{name}.err"));
        format!("{name}: exit {exit}first wrong line (said, right): {wrong:?}\n{complaints}")
    })
}

fn programs_print_the_right_answers(cpus: u32) {
    let Some(guest) = Guest::new(cpus) else { return };
    let guest = guest.with_second_disk(second_disk().path());
    let (code, said) = guest.start_second_disk().end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("second-disk: exit 0"), "{said}");
    guest.assert_disks_are_clean();
    let names = std::fs::read_dir(folder("answers")).expect("answers");
    let names: Vec<String> = names
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    assert!(names.len() >= 8, "{names:?}");
    let wrong: Vec<String> = names.iter().filter_map(|name| compare(&guest, name)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let apt = guest.read("/out/apt");
    let mut apt: Vec<&str> = apt.lines().collect();
    apt.sort_unstable();
    assert_eq!(apt, packages(&guest.read_root("/var/lib/dpkg/status")));
}

#[test]
fn programs_print_the_right_answers_on_one_cpu() {
    programs_print_the_right_answers(1);
}

/// Four at a time, on CPUs that take turns on this host's.
#[test]
fn programs_print_the_right_answers_on_four_cpus() {
    programs_print_the_right_answers(4);
}
