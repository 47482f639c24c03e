//! Both processes of an export die under load.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::rig::{Served, Stage, same, succeed};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn when_the_block_layer_dies_clients_see_a_pause_and_nothing_is_lost() {
    let lives = |millis| std::time::Duration::from_millis(millis);
    for (format, delay, life) in
        [("raw", "", lives(0)), ("raw", ",delay=20", lives(30)), ("qcow2", "", lives(0))]
    {
        let stage = Stage::new();
        let noise = stage.noise("noise", 64);
        let image = stage.path("image");
        succeed("qemu-img", &["create", "-q", "-f", format, text(&image), "64M"]);
        let served = Served::start(&stage, &image, &format!(",format={format}{delay}"), "");
        let mut copy = Command::new("nbdcopy")
            .args(["--request-size=65536", text(&noise), &served.uri()])
            .stdin(Stdio::null())
            .spawn()
            .expect("nbdcopy starts");
        let mut kills = 0;
        while copy.try_wait().expect("a status").is_none() {
            served.kill("block-layer");
            kills += 1;
            // A successor that dies before the first request is over gets nowhere, and rightly so.
            std::thread::sleep(life);
        }
        assert!(copy.wait().expect("a status").success(), "{format}: the copy failed");
        println!("{format}{delay}: {kills} kills");
        assert!(kills > 0);
        let back = stage.path("back");
        succeed("nbdcopy", &[&served.uri(), text(&back)]);
        same(&noise, &back);
        assert!(served.end().0);
    }
}

#[test]
fn when_the_nbd_server_dies_its_clients_see_a_hang_up_and_the_next_ones_are_served() {
    let stage = Stage::new();
    let (noise, image) = (stage.noise("noise", 8), stage.empty("image", 8));
    // A client in the middle of something when its server dies.
    let served = Served::start(&stage, &image, ",delay=50", "");
    for _ in 0..5 {
        let mut copy = Command::new("nbdcopy")
            .args([text(&noise), &served.uri()])
            .stderr(Stdio::null())
            .spawn()
            .expect("nbdcopy starts");
        std::thread::sleep(std::time::Duration::from_millis(60));
        served.kill("nbd-server");
        // Whether it was done before or not, it ends.
        let _ = copy.wait().expect("a status");
    }
    succeed("nbdcopy", &[text(&noise), &served.uri()]);
    same(&noise, &image);
    assert!(served.end().0);
}
