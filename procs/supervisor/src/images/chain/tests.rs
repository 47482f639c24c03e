use std::fs::File;

use super::*;

fn taken(path: &Path) -> Result<LockedFile, Refusal> {
    let (option, cache, read_only) = ("--disk d1", CacheMode::Writeback, true);
    Wanted { option, path, cache, read_only }.take(&|_| "somebody".to_owned())
}

#[test]
fn a_layer_that_cannot_be_written_whole_is_only_read_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let [image, data] = ["image", "data"].map(|name| {
        let path = folder.path().join(name);
        File::create(&path).unwrap().set_len(4096).unwrap();
        path
    });
    let mut layer = Layer {
        number: 0,
        path: image.clone(),
        format: LayerFormat::Qcow2,
        place: Place::File(taken(&image).unwrap()),
        data_file: Some(taken(&data).unwrap()),
        secret: None,
        part: Part::default(),
        journal: None,
    };
    let reader = taken(&data).unwrap();
    let refusal = layer.open_for_writing("commit d0", CacheMode::Writeback).unwrap_err();
    assert!(refusal.to_string().contains("another program uses it"), "{refusal}");
    assert!(layer.journal.is_none());
    taken(&image).expect("others read it as before");
    drop(reader);
    // A process that another test makes has that descriptor too, until it is another program.
    let opened = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        layer.open_for_writing("commit d0", CacheMode::Writeback).is_ok()
    });
    assert!(opened && layer.journal.is_some());
    for path in [&image, &data] {
        assert!(taken(path).is_err(), "{} is not locked for writing", path.display());
    }
}
