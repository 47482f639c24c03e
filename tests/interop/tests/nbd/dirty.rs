//! `qemu:dirty-bitmap:NAME`: what other people's clients are told of a bitmap.

use std::path::Path;

use crate::rig::{Served, Stage, fail, succeed};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn map(context: &str, uri: &str) -> String {
    let told = succeed("nbdinfo", &[&format!("--map={context}"), "--json", uri]);
    told.split_whitespace().collect()
}

fn write(uri: &str, command: &str) {
    succeed("qemu-io", &["-f", "raw", "-c", command, uri]);
}

/// `offset+length` of what is dirty.
fn dirty(told: &str) -> Vec<String> {
    let extents = told.split('{').filter(|extent| extent.contains("\"type\":1"));
    let number = |extent: &str, key: &str| {
        let from = extent.split(&format!("\"{key}\":")).nth(1).expect("a number");
        from.chars().take_while(char::is_ascii_digit).collect::<String>()
    };
    extents.map(|e| format!("{}+{}", number(e, "offset"), number(e, "length"))).collect()
}

#[test]
fn a_bitmap_in_memory_is_told_to_clients_who_ask_for_it() {
    let stage = Stage::new();
    let image = stage.empty("image", 16);
    let served = Served::start(&stage, &image, "", ",bitmap=b0");
    let (block, uri) = (served.block(), served.uri());
    let context = "qemu:dirty-bitmap:b0";
    assert!(succeed("nbdinfo", &["--json", &uri]).contains(context));
    // There is no such bitmap yet, and nobody is told that all is clean.
    fail("nbdinfo", &[&format!("--map={context}"), &uri]);
    map("base:allocation", &uri);
    block.run(&["bitmap", "add"], &["d0", "b0", "--granularity", "4K"]).expect("a bitmap");
    assert_eq!(dirty(&map(context, &uri)), [""; 0]);
    write(&uri, "write -P 1 1M 64K");
    write(&uri, "write -P 1 8193k 512");
    assert_eq!(dirty(&map(context, &uri)), ["1048576+65536", "8388608+4096"]);
    // Both at once, as QEMU's incremental copies ask.
    let options = format!("driver=nbd,path={},x-dirty-bitmap={context}", text(served.socket()));
    let options = options.replace("path=", "server.type=unix,export=d0,server.path=");
    let told = succeed("qemu-img", &["map", "--output=json", "--image-opts", &options]);
    // QEMU shows what is dirty as what has no data.
    let holes: Vec<_> = told.lines().filter(|line| line.contains("\"data\": false")).collect();
    assert_eq!(holes.len(), 2, "{told}");
    assert!(holes[0].contains("\"start\": 1048576, \"length\": 65536"), "{told}");
    block.run(&["bitmap", "clear"], &["d0", "b0"]).expect("clean");
    assert_eq!(dirty(&map(context, &uri)), [""; 0]);
    // It dies with its block layer, and is not taken for a clean one.
    served.kill("block-layer");
    fail("nbdinfo", &[&format!("--map={context}"), &uri]);
    assert!(served.end().0);
}

#[test]
fn a_bitmap_that_the_image_keeps_outlives_the_block_layer_for_clients_too() {
    let stage = Stage::new();
    let image = stage.path("image");
    succeed("qemu-img", &["create", "-q", "-f", "qcow2", text(&image), "64M"]);
    succeed("qemu-img", &["bitmap", "--add", "-g", "64K", text(&image), "kept"]);
    let served = Served::start(&stage, &image, ",format=qcow2", ",bitmap=kept");
    let (uri, context) = (served.uri(), "qemu:dirty-bitmap:kept");
    for at in 0..200 {
        write(&uri, &format!("write -P 1 {}k 64k", at * 128));
        if at % 40 == 39 {
            served.kill("block-layer");
        }
    }
    let expected: Vec<_> = (0..200).map(|at| format!("{}+65536", at * 131072)).collect();
    assert_eq!(dirty(&map(context, &uri)), expected);
    assert!(served.end().0);
}
