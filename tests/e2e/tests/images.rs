//! Images that cannot be used: one line each, by `bulkhead-img` and by `bulkhead storage`, whose exact words
//! these are. Nothing is left of either.

mod stage;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Command, Output};

use bulkhead_harness::programs;
use stage::Stage;

/// What is wrong with an image.
struct Case {
    /// Makes it, as `x.q` in the stage's folder.
    spoil: fn(&Stage),
    /// A command that meets it.
    command: &'static [&'static str],
    /// What that says.
    says: &'static str,
    /// `bulkhead storage` says the same of it.
    served: bool,
}

const WRITE: &[&str] = &["bench", "-q", "-w", "-c", "1", "-f", "qcow2", "x.q"];

const READ: &[&str] = &["map", "-f", "qcow2", "x.q"];

const CASES: &[Case] = &[
    Case {
        spoil: |stage| shorten(stage, 150_000),
        command: READ,
        says: "x.q: the image is truncated: its file ends at 150000, and its tables begin at 196608",
        served: true,
    },
    Case {
        spoil: |stage| patch(stage, 32, &[0, 0, 0, 1]),
        command: READ,
        says: "x.q: the image is encrypted in the old way (AES), which is not safe; convert it to LUKS: qemu-img convert",
        served: true,
    },
    Case {
        // Its bit is set, and an entry leads out of the file.
        spoil: |stage| {
            must(stage, WRITE);
            patch(stage, 79, &[1]);
            patch(stage, 0x40000, &[0x80, 0, 0, 0, 0x7f, 0, 0, 0]);
        },
        command: WRITE,
        says: "x.q: the image was not closed, and not everything in it could be repaired; \
               repair it: bulkhead-img check -r all",
        served: true,
    },
    Case {
        spoil: |stage| patch(stage, 79, &[2]),
        command: WRITE,
        says: "x.q: the image is marked corrupt; open it read-only, or repair it: \
               bulkhead-img check -r all",
        served: true,
    },
    Case {
        spoil: |stage| patch(stage, 4, &[0, 0, 0, 4]),
        command: READ,
        says: "x.q: the image is qcow2 version 4; versions 2 and 3 are served",
        served: true,
    },
    Case {
        spoil: |stage| patch(stage, 72, &[0x10]),
        command: READ,
        says: "x.q: the image has features that are not known here: bit 60",
        served: true,
    },
    Case {
        spoil: |stage| drop(stage.file("x.q", &[0; 4096])),
        command: READ,
        says: "x.q: the image is not in qcow2 format",
        served: true,
    },
    Case {
        spoil: |stage| {
            must(stage, &["create", "-q", "-f", "qcow2", "-b", "y.q", "-F", "qcow2", "x.q", "1M"]);
            must(stage, &["create", "-q", "-f", "qcow2", "-b", "x.q", "-F", "qcow2", "y.q", "1M"]);
        },
        command: &["info", "-f", "qcow2", "--backing-chain", "x.q"],
        says: "x.q: the chain comes back to it: it is a loop",
        served: false,
    },
    Case {
        spoil: |stage| {
            must(stage, &["create", "-q", "-f", "qcow2", "-b", "gone", "-F", "raw", "x.q", "1M"]);
        },
        command: READ,
        says: "x.q: the image has the backing file 'gone', which was not given; \
               give it with --backing FORMAT:PATH",
        served: false,
    },
    Case {
        spoil: |_| {},
        command: &["snapshot", "-a", "monday", "x.q"],
        says: "Could not apply snapshot 'monday': there is no snapshot 'monday'",
        served: false,
    },
    Case {
        spoil: |_| {},
        command: &["convert", "-l", "monday", "-f", "qcow2", "-O", "raw", "x.q", "y.raw"],
        says: "x.q: there is no snapshot 'monday'",
        served: false,
    },
    Case {
        spoil: |stage| drop(stage.file("y.raw", &[0; 4096])),
        command: &["convert", "-n", "-f", "qcow2", "-O", "raw", "x.q", "y.raw"],
        says: "the target has 4096 bytes and the disk 1048576; resize the target first",
        served: false,
    },
    Case {
        spoil: |_| {},
        command: &["bitmap", "--clear", "x.q", "daily"],
        says: "Operation clear on bitmap daily failed: there is no bitmap 'daily'",
        served: false,
    },
];

fn img(stage: &Stage, arguments: &[&str]) -> Output {
    let mut command = Command::new(programs::folder().join("bulkhead-img"));
    command.args(arguments).current_dir(stage.path("")).output().expect("bulkhead-img runs")
}

fn must(stage: &Stage, arguments: &[&str]) {
    let output = img(stage, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

fn image(stage: &Stage) -> File {
    File::options().write(true).open(stage.path("x.q")).expect("an image")
}

fn patch(stage: &Stage, at: u64, bytes: &[u8]) {
    image(stage).write_all_at(bytes, at).expect("patched");
}

fn shorten(stage: &Stage, len: u64) {
    image(stage).set_len(len).expect("shortened");
}

fn staged(case: &Case) -> Stage {
    let stage = Stage::new();
    must(&stage, &["create", "-q", "-f", "qcow2", "x.q", "1M"]);
    (case.spoil)(&stage);
    stage
}

#[test]
fn bulkhead_img_says_what_is_wrong_in_one_line() {
    for case in CASES {
        let stage = staged(case);
        let output = img(&stage, case.command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said, format!("bulkhead-img: {}\n", case.says), "{:?}", case.command);
        assert_eq!(output.status.code(), Some(1), "{said}");
    }
}

/// `bulkhead storage` with the image and further keys of its disk: what it says when it refuses.
fn refusal(stage: &Stage, keys: &str) -> String {
    let disk = format!("id=d0,path={},format=qcow2{keys}", stage.path("x.q"));
    let export = format!("vhost-user-blk,disk=d0,socket={}", stage.path("s.sock"));
    let mut command = programs::bulkhead();
    command.args(["storage", "--name", stage.name(), "--disk", &disk, "--export", &export]);
    let output = command.output().expect("bulkhead runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

#[test]
fn bulkhead_storage_says_what_is_wrong_in_one_line() {
    for case in CASES.iter().filter(|case| case.served) {
        let stage = staged(case);
        let says = case.says.strip_prefix("x.q: ").expect("it blames the image");
        let line = format!("bulkhead: --disk d0: {}: {says}; check the image\n", stage.path("x.q"));
        assert_eq!(refusal(&stage, ""), line);
    }
}

#[test]
fn bulkhead_storage_follows_no_loop_and_misses_a_file_that_is_gone() {
    let stage = Stage::new();
    let overlay = |name, below| {
        must(&stage, &["create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", name, "1M"]);
    };
    overlay("x.q", "y.q");
    overlay("y.q", "x.q");
    let image = stage.path("x.q");
    assert_eq!(
        refusal(&stage, ",backing=auto"),
        format!(
            "bulkhead: --disk: id=d0,path={image},format=qcow2,backing=auto: its chain has more than \
             32 files, or a loop; shorten it: bulkhead-img commit or convert\n"
        )
    );
    overlay("x.q", "gone");
    let gone = stage.path("gone");
    assert_eq!(
        refusal(&stage, ",backing=auto"),
        format!(
            "bulkhead: --disk: id=d0,path={image},format=qcow2,backing=auto: bulkhead-img: {gone}: \
             No such file or directory (os error 2); check the image, or give its backing files by name\n"
        )
    );
    let line = format!("bulkhead: --disk d0: {gone}: there is no such file; check the path\n");
    let keys = format!(",backing={gone},backing-format=qcow2");
    assert_eq!(refusal(&stage, &keys), line);
}

/// By the name of who holds it, where that can be seen.
#[test]
fn an_image_that_another_instance_serves_is_locked() {
    let stage = Stage::new();
    must(&stage, &["create", "-q", "-f", "raw", "x.q", "1M"]);
    let serving = stage.storage(&stage.path("x.q"));
    let output = img(&stage, &["resize", "-f", "raw", "x.q", "+1M"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((said.lines().count(), output.status.code()), (1, Some(1)), "{said}");
    assert!(said.starts_with("bulkhead-img: x.q: it is locked by "), "{said}");
    assert!(said.ends_with("; end that first\n"), "{said}");
    drop(serving);
}
