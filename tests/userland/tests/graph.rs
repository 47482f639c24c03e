//! A guest's disks get new layers and lose them again while it writes, and it notices nothing.

use std::path::Path;

use bulkhead_harness::block::Block;
use bulkhead_userland::Guest;

/// How often both disks get a layer that is committed.
const ROUNDS: u32 = 3;

#[test]
fn disks_are_snapshot_and_committed_while_the_guest_writes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/under-kills");
    let Some(guest) = Guest::new(2) else { return };
    let guest = guest.with_second_disk(&folder);
    let mut console = guest.start_second_disk();
    console.wait_for("under-kills: writing");
    let block = Block::of(guest.name());
    let files = tempfile::tempdir().expect("a folder");
    for round in 0..ROUNDS {
        let before = block.layers();
        let layer = |disk| format!("{disk},path={}/{disk}-{round}.qcow2", files.path().display());
        let layers = [layer("d0"), layer("d1")];
        block.run(&["snapshot"], &["--disk", &layers[0], "--disk", &layers[1]]).expect("layers");
        assert_eq!(block.layers().len(), before.len() + 1);
        for disk in ["d0", "d1"] {
            block.run(&["commit"], &[disk, "--keep"]).expect("a commit");
            block.finish(&format!("commit-{disk}")).expect("the commit's end");
        }
        assert_eq!(block.layers(), before);
    }
    console.say("enough");
    let (code, said) = console.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("rounds, all right") && said.contains("second-disk: exit 0"), "{said}");
    guest.assert_disks_are_clean();
}
